"""Models: any head on any backbone, described by plain data."""

from segmentation.models.heads import HEADS, resize
from segmentation.models.pretrained import (
    WeightsReport,
    known_licence,
    load_weights,
    pretrained_options,
    weights_here,
)
from segmentation.models.segmenter import Decision, Segmenter, create_segmenter, shard
from segmentation.models.weights_file import WeightsFile, is_weights_file, read_weights_file

__all__ = [
    "HEADS",
    "Decision",
    "Segmenter",
    "WeightsFile",
    "WeightsReport",
    "create_segmenter",
    "is_weights_file",
    "known_licence",
    "load_weights",
    "pretrained_options",
    "read_weights_file",
    "resize",
    "shard",
    "weights_here",
]
