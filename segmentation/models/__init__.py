"""Models: any head on any backbone, described by plain data."""

from segmentation.models.heads import HEADS
from segmentation.models.pretrained import WeightsReport, load_weights, pretrained_options
from segmentation.models.segmenter import Segmenter, create_segmenter, shard

__all__ = [
    "HEADS",
    "Segmenter",
    "WeightsReport",
    "create_segmenter",
    "load_weights",
    "pretrained_options",
    "shard",
]
