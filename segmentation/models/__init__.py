"""Models: any head on any backbone, described by plain data."""

from segmentation.models.coco import pretrained_options
from segmentation.models.heads import HEADS
from segmentation.models.segmenter import Segmenter, create_segmenter
from segmentation.models.sharding import shard
from segmentation.models.state import WeightsReport
from segmentation.models.weights import load_weights

__all__ = [
    "HEADS",
    "Segmenter",
    "WeightsReport",
    "create_segmenter",
    "load_weights",
    "pretrained_options",
    "shard",
]
