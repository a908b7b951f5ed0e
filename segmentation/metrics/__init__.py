"""Counts first, scores last."""

from segmentation.metrics.confusion import ConfusionMatrix, MeanLoss
from segmentation.metrics.scores import per_class, scores
from segmentation.metrics.tally import Tally

__all__ = ["ConfusionMatrix", "MeanLoss", "Tally", "per_class", "scores"]
