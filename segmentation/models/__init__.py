"""Models: any head on any backbone, described by plain data."""

from segmentation.models.heads import HEADS, resize
from segmentation.models.pretrained import (
    WeightsFile,
    WeightsReport,
    known_licence,
    load_weights,
    pretrained_options,
    read_weights_file,
    weights_here,
)
from segmentation.models.segmenter import Decision, Segmenter, create_segmenter, shard

__all__ = [
    "HEADS",
    "Decision",
    "Segmenter",
    "WeightsFile",
    "WeightsReport",
    "create_segmenter",
    "known_licence",
    "load_weights",
    "pretrained_options",
    "read_weights_file",
    "resize",
    "shard",
    "weights_here",
]
