"""Models: any head on any backbone, described by plain data."""

from segmentation.models.backbone import BACKBONES
from segmentation.models.segmenter import HEADS, Segmenter, create_segmenter
from segmentation.models.state import WeightsReport
from segmentation.models.weights import load_weights, pretrained_rates

__all__ = [
    "BACKBONES",
    "HEADS",
    "Segmenter",
    "WeightsReport",
    "create_segmenter",
    "load_weights",
    "pretrained_rates",
]
