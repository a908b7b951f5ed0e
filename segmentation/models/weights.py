"""Where the weights start: ImageNet's, COCO's, or a file's."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import Tensor
from torchvision.models import WeightsEnum, get_model_weights
from torchvision.models.segmentation import (
    DeepLabV3_MobileNet_V3_Large_Weights,
    DeepLabV3_ResNet50_Weights,
    DeepLabV3_ResNet101_Weights,
)

from segmentation.errors import UserError
from segmentation.models.backbone import BACKBONES
from segmentation.models.segmenter import Segmenter


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

_WRAPPERS = ("module.", "_orig_mod.", "model.")  # left in the keys by DDP, torch.compile and Lightning
_OURS = {"classifier.": "head.", "aux_classifier.": "aux_head.", "features.": "backbone."}


@dataclass(frozen=True)
class WeightsReport:
    """What was loaded from where; `skipped` names the tensors of the source that the model did not take."""

    source: str
    loaded: int = 0
    skipped: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.loaded:
            return "weights: from scratch (weights=imagenet starts from a trained backbone)"
        left = f"; skipped {len(self.skipped)}: {', '.join(self.skipped)}" if self.skipped else ""
        return f"weights: {self.loaded} tensors of {self.source}{left}"


def load_weights(model: Segmenter, weights: str) -> WeightsReport:
    """Fills `model` from `imagenet`, `coco`, a file, or with `none` leaves it as it is.

    A tensor whose name or shape the model does not have is skipped and reported: a final layer for other
    classes keeps its fresh start.

    Raises `UserError` where there are no such weights, they cannot be fetched, or nothing of a file fits.
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
    return _fill(model, _read_file(Path(weights).expanduser()), weights)


def pretrained_rates(backbone: str, weights: str, output_stride: int) -> list[int] | None:
    """The head's rates that go with the weights: COCO's at the same reach in pixels; else None, the head's own.

    Raises `UserError` for `coco` where torchvision has no such weights.
    """
    if weights != "coco":
        return None
    _require_coco(backbone)
    return [rate * COCO[backbone].output_stride // output_stride for rate in _COCO_RATES]


def _require_coco(backbone: str) -> None:
    if backbone not in COCO:
        raise UserError(f"weights=coco does not exist for {backbone}, only for {', '.join(COCO)}. Take weights=imagenet.")


def _load_published(model: Segmenter, weights: WeightsEnum) -> WeightsReport:
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(weights.url).path).name
    try:
        state = torch.hub.load_state_dict_from_url(
            weights.url, progress=False, check_hash=True, map_location="cpu", weights_only=True
        )
    except OSError as error:
        raise UserError(
            f"{weights} cannot be fetched from {weights.url} ({error}). Put that file at {path}, or take weights=none."
        ) from error
    except Exception as error:  # a damaged file shows itself in many ways
        raise UserError(f"{path} is damaged ({type(error).__name__}): delete it, it will be fetched again.") from error
    report = _fill(model, state, str(weights))
    preprocessing = weights.transforms()
    model.mean.copy_(255 * torch.tensor(preprocessing.mean).reshape(model.mean.shape))
    model.std.copy_(255 * torch.tensor(preprocessing.std).reshape(model.std.shape))
    return report


def _read_file(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise UserError(f"weights={path} is no file. Give imagenet, coco, none or the path of a state dict.")
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds; all mean that the file cannot be trusted
        raise UserError(f"weights={path} was not loaded: it is damaged or holds more than weights.") from error
    if isinstance(contents, dict) and isinstance(contents.get("state_dict"), dict):
        contents = contents["state_dict"]
    if not isinstance(contents, dict):
        raise UserError(f"weights={path} holds a {type(contents).__name__}, not a state dict.")
    return contents


def _fill(model: Segmenter, state: Mapping[str, Any], source: str) -> WeightsReport:
    own = model.state_dict()
    fitting, skipped = {}, []
    for key, value in state.items():
        name = _our_name(str(key))
        if isinstance(value, Tensor) and name in own and own[name].shape == value.shape:
            fitting[name] = value
        else:
            skipped.append(str(key))
    if not any(name.startswith("backbone.") for name in fitting):
        name = model.description["backbone"]["name"]
        raise UserError(f"weights={source} fits nothing of {name}: was it made with another backbone?")
    model.load_state_dict(fitting, strict=False)
    return WeightsReport(source, len(fitting), tuple(skipped))


def _our_name(key: str) -> str:
    while wrapper := next((prefix for prefix in _WRAPPERS if key.startswith(prefix)), ""):
        key = key.removeprefix(wrapper)
    for prefix, ours in _OURS.items():
        if key.startswith(prefix):
            return ours + key.removeprefix(prefix)
    known = ("backbone.", "head.", "aux_head.", "mean", "std")
    return key if key.startswith(known) else f"backbone.{key}"
