"""Torchvision's whole segmentation models: which it has, and how they were built."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torchvision.models import WeightsEnum
from torchvision.models.segmentation import (
    DeepLabV3_MobileNet_V3_Large_Weights,
    DeepLabV3_ResNet50_Weights,
    DeepLabV3_ResNet101_Weights,
    FCN_ResNet50_Weights,
    FCN_ResNet101_Weights,
    LRASPP_MobileNet_V3_Large_Weights,
)

from segmentation.errors import UserError


@dataclass(frozen=True)
class CocoWeights:
    """Torchvision's weights of a whole model, and the output stride that it was trained at."""

    weights: WeightsEnum
    output_stride: int


COCO: Mapping[tuple[str, str], CocoWeights] = {
    ("deeplabv3", "resnet50"): CocoWeights(DeepLabV3_ResNet50_Weights.DEFAULT, 8),
    ("deeplabv3", "resnet101"): CocoWeights(DeepLabV3_ResNet101_Weights.DEFAULT, 8),
    ("deeplabv3", "mobilenet_v3_large"): CocoWeights(DeepLabV3_MobileNet_V3_Large_Weights.DEFAULT, 16),
    ("fcn", "resnet50"): CocoWeights(FCN_ResNet50_Weights.DEFAULT, 8),
    ("fcn", "resnet101"): CocoWeights(FCN_ResNet101_Weights.DEFAULT, 8),
    ("lraspp", "mobilenet_v3_large"): CocoWeights(LRASPP_MobileNet_V3_Large_Weights.DEFAULT, 16),
}
"""By head and backbone."""

_RATES = (12, 24, 36)  # of its DeepLabV3, at every output stride

Options = dict[str, Any]


def coco_weights(head: str, backbone: str) -> CocoWeights:
    """Raises `UserError` for a model that torchvision does not have."""
    if (head, backbone) not in COCO:
        known = ", ".join(f"{head}+{backbone}" for head, backbone in COCO)
        raise UserError(f"weights=coco does not exist for {head}+{backbone}, only for {known}.")
    return COCO[head, backbone]


def pretrained_options(
    backbone: Options, head: Options, weights: str, output_stride: int | None
) -> tuple[Options, Options]:
    """The sections of backbone and head, what is None in them filled in as the weights were trained with.

    That is for `coco` DeepLabV3's `rates`, reaching as many pixels at any stride, and the features that
    LR-ASPP `taps`. Raises `UserError` where torchvision has no such weights.
    """
    if weights != "coco":
        return backbone, head
    trained = coco_weights(str(head.get("name")), str(backbone.get("name")))
    if head.get("rates", 0) is None:
        # A stride that is not possible is the backbone's to refuse.
        stride = max(output_stride or 16, 1)
        head = {**head, "rates": [rate * trained.output_stride // stride for rate in _RATES]}
    if head.get("name") == "lraspp" and backbone.get("taps", 0) is None:
        backbone = {**backbone, "taps": "first"}
    return backbone, head
