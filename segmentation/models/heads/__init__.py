"""Heads: feature maps by nominal stride -> logits."""

from collections.abc import Mapping

from torch import nn

from segmentation.models.heads.deeplabv3 import DeepLabV3Head
from segmentation.models.heads.deeplabv3plus import DeepLabV3PlusHead
from segmentation.models.heads.fcn import FCNHead
from segmentation.models.heads.fpn import FPNHead
from segmentation.models.heads.lraspp import LRASPPHead

__all__ = ["HEADS", "FCNHead"]

HEADS: Mapping[str, type[nn.Module]] = {
    "deeplabv3": DeepLabV3Head,
    "deeplabv3plus": DeepLabV3PlusHead,
    "fpn": FPNHead,
    "lraspp": LRASPPHead,
    "fcn": FCNHead,
}
