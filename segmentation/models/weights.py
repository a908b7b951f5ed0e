"""Where the weights start: ImageNet's, COCO's, or a file's."""

from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torchvision.models import WeightsEnum, get_model_weights

from segmentation.errors import UserError, closest
from segmentation.models.backbones.timm import TimmBackbone
from segmentation.models.coco import coco_weights
from segmentation.models.files import is_published, read_state
from segmentation.models.segmenter import Segmenter
from segmentation.models.state import WeightsReport, fill


def load_weights(model: Segmenter, weights: str) -> WeightsReport:
    """Fills `model` from `imagenet`, torchvision's name of weights, `coco` or a file; `none` leaves it as it is.

    A layer that the model does not have, or has for other classes, is skipped and reported; a first
    convolution for other channels is adapted. Published weights bring the mean and std that they were
    trained with.

    Raises `UserError` where there are no such weights, they cannot be fetched, or are of another backbone.
    """
    if weights == "none":
        return WeightsReport("none")
    backbone, name = model.backbone, model.description["backbone"]["name"]
    if weights == "coco":
        about = model.description
        return _load_published(model, coco_weights(about["head"]["name"], about["backbone"]).weights)
    if is_published(weights) and isinstance(backbone, TimmBackbone):
        return _load_timm(model, backbone, weights)
    if is_published(weights):
        return _load_published(model, _find(name, weights))
    return fill(model, read_state(Path(weights).expanduser()), weights)


def _find(name: str, weights: str) -> WeightsEnum:
    known = {each.name: each for each in get_model_weights(name)}
    if weights == "imagenet":
        default: WeightsEnum = get_model_weights(name).DEFAULT
        return default
    if weights not in known:
        raise UserError(f"weights={weights} does not exist for {name}.{closest(weights, known)}")
    return known[weights]


def _load_published(model: Segmenter, weights: WeightsEnum) -> WeightsReport:
    report = fill(model, _fetch(weights), str(weights))
    preprocessing = weights.transforms()
    model.normalise_by(preprocessing.mean, preprocessing.std)
    return report


def _load_timm(model: Segmenter, backbone: TimmBackbone, weights: str) -> WeightsReport:
    if weights != "imagenet":
        raise UserError(
            f"weights={weights} is torchvision's: timm's are part of its names, such as backbone.name=resnet50.a1_in1k."
        )
    mean, std = backbone.load_pretrained()
    model.normalise_by(mean, std)
    count = len(backbone.state_dict())
    adapted = () if backbone.in_channels == 3 else ("the first convolution, by timm",)
    return WeightsReport(
        f"timm's {backbone.name}", count, adapted=adapted, parts={"backbone": (count, count)}
    )


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
