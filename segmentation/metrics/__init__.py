"""Counts first, scores last."""

from segmentation.metrics.boundary import BoundaryCounts, boundary_iou
from segmentation.metrics.calibration import Calibration
from segmentation.metrics.confusion import ConfusionMatrix, MeanLoss, image_counts
from segmentation.metrics.curves import average_precision, best_threshold, pr_points, roc_auc, roc_points
from segmentation.metrics.histogram import ScoreHistogram
from segmentation.metrics.images import image_means, image_scores
from segmentation.metrics.judgement import Judgement
from segmentation.metrics.scores import per_class, ratios, scores
from segmentation.metrics.tally import Tally

__all__ = [
    "BoundaryCounts",
    "Calibration",
    "ConfusionMatrix",
    "Judgement",
    "MeanLoss",
    "ScoreHistogram",
    "Tally",
    "average_precision",
    "best_threshold",
    "boundary_iou",
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
