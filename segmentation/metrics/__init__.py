"""Metrics: counts are summed over a split, scores are derived from them once."""

from segmentation.metrics.boundary import BoundaryCounts, boundary_iou
from segmentation.metrics.calibration import Calibration, Temperature
from segmentation.metrics.collections import EvaluationMetrics, TrainingMetrics
from segmentation.metrics.confusion import (
    ConfusionMatrix,
    MeanLoss,
    constant_baseline,
    image_counts,
    image_means,
    image_scores,
    per_class,
    ratios,
    scores,
)
from segmentation.metrics.curves import (
    ScoreHistogram,
    average_precision,
    best_threshold,
    pr_points,
    roc_auc,
    roc_points,
)
from segmentation.metrics.objects import ObjectMetrics, ObjectRules

__all__ = [
    "BoundaryCounts",
    "Calibration",
    "ConfusionMatrix",
    "EvaluationMetrics",
    "MeanLoss",
    "ObjectMetrics",
    "ObjectRules",
    "ScoreHistogram",
    "Temperature",
    "TrainingMetrics",
    "average_precision",
    "best_threshold",
    "boundary_iou",
    "constant_baseline",
    "image_counts",
    "image_means",
    "image_scores",
    "per_class",
    "pr_points",
    "ratios",
    "roc_auc",
    "roc_points",
    "scores",
]
