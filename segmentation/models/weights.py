"""Where the weights start: ImageNet's, COCO's, or a file's."""

from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torchvision.models import WeightsEnum, get_model_weights
from torchvision.models.segmentation import (
    DeepLabV3_MobileNet_V3_Large_Weights,
    DeepLabV3_ResNet50_Weights,
    DeepLabV3_ResNet101_Weights,
)

from segmentation.errors import UserError
from segmentation.models.backbone import BACKBONES, STRIDES
from segmentation.models.segmenter import Segmenter
from segmentation.models.state import WeightsReport, fill, read_state


@dataclass(frozen=True)
class CocoWeights:
    """Torchvision's weights of a whole model, and the output stride that it was trained at."""

    weights: WeightsEnum
    output_stride: int


COCO: Mapping[str, CocoWeights] = {
    "resnet50": CocoWeights(DeepLabV3_ResNet50_Weights.DEFAULT, 8),
    "resnet101": CocoWeights(DeepLabV3_ResNet101_Weights.DEFAULT, 8),
    "mobilenetv3_large": CocoWeights(DeepLabV3_MobileNet_V3_Large_Weights.DEFAULT, 16),
}
_COCO_RATES = (12, 24, 36)  # torchvision's, at every output stride


def load_weights(model: Segmenter, weights: str) -> WeightsReport:
    """Fills `model` from `imagenet`, `coco`, a file, or with `none` leaves it as it is.

    A layer that the model does not have, or has for other classes, is skipped and reported. Published
    weights bring the mean and std that they were trained with.

    Raises `UserError` where there are no such weights, they cannot be fetched, or are of another backbone.
    """
    if weights == "none":
        return WeightsReport("none")
    backbone = model.description["backbone"]["name"]
    if weights == "imagenet":
        chosen = get_model_weights(BACKBONES[backbone].torchvision).DEFAULT
        return _load_published(model, chosen)
    if weights == "coco":
        _require_coco(backbone)
        return _load_published(model, COCO[backbone].weights)
    return fill(model, read_state(Path(weights).expanduser()), weights)


def pretrained_rates(backbone: str, weights: str, output_stride: int) -> list[int] | None:
    """The head's rates for these weights: COCO's, reaching as many pixels; else None, for the head's own.

    Raises `UserError` for `coco` where torchvision has no such weights.
    """
    if weights != "coco" or output_stride not in STRIDES:  # a wrong stride is the backbone's to refuse
        return None
    _require_coco(backbone)
    return [rate * COCO[backbone].output_stride // output_stride for rate in _COCO_RATES]


def _require_coco(backbone: str) -> None:
    if backbone not in COCO:
        raise UserError(
            f"weights=coco does not exist for {backbone}, only for {', '.join(COCO)}. Take weights=imagenet."
        )


def _load_published(model: Segmenter, weights: WeightsEnum) -> WeightsReport:
    report = fill(model, _fetch(weights), str(weights))
    preprocessing = weights.transforms()
    model.mean.copy_(255 * torch.tensor(preprocessing.mean).reshape(model.mean.shape))
    model.std.copy_(255 * torch.tensor(preprocessing.std).reshape(model.std.shape))
    return report


def _fetch(weights: WeightsEnum) -> Mapping[str, Any]:
    """From torch.hub's cache; what is downloaded into it is held against the hash in its name."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(weights.url).path).name
    cure = f"Put that file at {path} by hand, or take weights=none."
    try:
        state: Mapping[str, Any] = torch.hub.load_state_dict_from_url(
            weights.url, progress=False, check_hash=True, map_location="cpu", weights_only=True
        )
    except (OSError, HTTPException) as error:
        raise UserError(f"{weights} cannot be fetched from {weights.url} ({error}). {cure}") from error
    except Exception as error:  # a damaged file shows itself in many ways
        if path.exists():
            raise UserError(f"{path} is damaged: delete it, it will be fetched again.") from error
        raise UserError(f"{weights.url} did not give the file of that name ({error}). {cure}") from error
    return state
