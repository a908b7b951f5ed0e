"""Torchvision's whole segmentation models: which it has, and how they were built."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
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
from segmentation.models.files import is_file, read_state, unwrapped


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


def coco_weights(head: str, backbone: Options) -> CocoWeights:
    """Raises `UserError` for a model that torchvision does not have."""
    name, source = backbone.get("name"), backbone.get("source", "torchvision")
    if source != "torchvision" or (head, name) not in COCO:
        known = ", ".join(f"{head}+{name}" for head, name in COCO)
        wanted = f"{head}+{name}" if source == "torchvision" else f"{source}'s {name}"
        raise UserError(f"weights=coco does not exist for {wanted}, only for torchvision's {known}.")
    return COCO[head, str(name)]


def pretrained_options(
    backbone: Options, head: Options, weights: str, output_stride: int | None
) -> tuple[Options, Options]:
    """The sections of backbone and head, what is None in them or missing filled in as the weights were trained with.

    That is for `coco`, and a file of one of torchvision's whole models, DeepLabV3's `rates`, reaching as many
    pixels at any stride, and the features that LR-ASPP `taps`. Raises `UserError` where torchvision has no such
    weights, and for a file that is none.
    """
    whole = weights == "coco" or (
        is_file(weights) and _is_torchvisions(read_state(Path(weights).expanduser()))
    )
    if not whole:
        return backbone, head
    if weights != "coco" and (head.get("name"), backbone.get("name")) not in COCO:
        return backbone, head
    trained = coco_weights(str(head.get("name")), backbone)
    if head.get("name") == "deeplabv3" and head.get("rates") is None:
        # A stride that is not possible is the backbone's to refuse.
        stride = max(output_stride or 16, 1)
        head = {**head, "rates": [rate * trained.output_stride // stride for rate in _RATES]}
    if head.get("name") == "lraspp" and backbone.get("taps") is None:
        backbone = {**backbone, "taps": "first"}
    return backbone, head


def _is_torchvisions(state: Mapping[str, Any]) -> bool:
    names = [unwrapped(str(key)) for key in state]
    return all(any(name.startswith(part) for name in names) for part in ("backbone.", "classifier."))
