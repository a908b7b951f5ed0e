"""From somebody's state dict to our tensors: reading a file, naming its keys, filling a model."""

import warnings
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segmentation.errors import UserError
from segmentation.models.channels import adapt_filters, in_turn
from segmentation.models.segmenter import Segmenter

_WRAPPERS = ("module.", "_orig_mod.", "model.")  # left in the keys by DDP, torch.compile and Lightning
_HEADS = {"classifier.": "head.", "aux_classifier.": "aux_head."}  # torchvision's names and ours


@dataclass(frozen=True)
class WeightsReport:
    """What was loaded from where; `skipped` gives the reason for each key that the model did not take.

    `adapted` are the keys, among the loaded ones, that were made for another number of channels.
    """

    source: str
    loaded: int = 0
    skipped: Mapping[str, str] = field(default_factory=dict)
    adapted: Sequence[str] = ()

    def __str__(self) -> str:
        if not self.loaded:
            return "weights: from scratch (weights=imagenet starts from a trained backbone)"
        reasons = dict.fromkeys(self.skipped.values())
        skipped = (
            f"; skipped, {reason}: {', '.join(key for key, why in self.skipped.items() if why == reason)}"
            for reason in reasons
        )
        adapted = f"; adapted to the number of channels: {', '.join(self.adapted)}" if self.adapted else ""
        return f"weights: {self.loaded} tensors of {self.source}{adapted}{''.join(skipped)}"


def read_state(path: Path) -> Mapping[str, Any]:
    """The state dict in a file: the whole of it, or what a checkpoint keeps under `state_dict`.

    Raises `UserError` for a file that is missing, damaged, something else, or that would run code.
    """
    if not path.is_file():
        raise UserError(f"weights={path} is no file. Give imagenet, coco, none or the path of a state dict.")
    try:
        with warnings.catch_warnings(action="ignore"):  # of strange pickles, which the error says better
            contents = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds; all mean that the file cannot be trusted
        raise UserError(
            f"weights={path} is damaged or holds more than weights, which could run code: it was not loaded."
            " Give a state dict of plain tensors."
        ) from error
    if isinstance(contents, dict) and isinstance(contents.get("state_dict"), dict):
        contents = contents["state_dict"]
    if not isinstance(contents, dict):
        raise UserError(f"weights={path} holds a {type(contents).__name__}, not a state dict.")
    return contents


def fill(model: Segmenter, state: Mapping[str, Any], source: str) -> WeightsReport:
    """Loads what fits, of a classifier (the backbone alone) or of a whole segmentation model.

    A layer of another shape, or of a head that the model does not have, keeps its fresh start. A backbone
    that fits in part would be half untrained without a word: it is an error.

    Raises `UserError` where the backbone's tensors are not those of the model.
    """
    own = model.state_dict()
    given = {name: (key, value) for key, name, value in _named(model, state)}
    fitted = {name: _fitted(model, name, value) for name, (_, value) in given.items() if name in own}
    # A layer is taken as a whole: beside a fresh weight, a bias made for another one would be noise.
    changed = {_layer(name) for name, value in fitted.items() if value.shape != own[name].shape}
    fitting = {name: value for name, value in fitted.items() if _layer(name) not in changed}
    _require_backbone(model, given.keys(), fitting.keys(), source)
    model.load_state_dict(fitting, strict=False)
    skipped = {
        key: "of another shape here" if name in own else "not in this model"
        for name, (key, _) in given.items()
        if name not in fitting
    }
    adapted = [given[name][0] for name, value in fitting.items() if value is not given[name][1]]
    return WeightsReport(source, len(fitting), skipped, adapted)


def _fitted(model: Segmenter, name: str, value: Tensor) -> Tensor:
    """The tensor for the model's number of channels, where it is one that depends on it."""
    channels = model.mean.shape[1]
    if value.ndim != 4 or value.shape[1] == channels:
        return value
    if name in ("mean", "std"):
        return value.mean(1, keepdim=True) if channels == 1 else in_turn(value, channels, dim=1)
    return adapt_filters(value, channels) if name == _first_filters(model) else value


def _first_filters(model: Segmenter) -> str:
    modules = model.backbone.named_modules(prefix="backbone")
    return next(f"{name}.weight" for name, module in modules if isinstance(module, nn.Conv2d))


def _require_backbone(model: Segmenter, given: Set[str], fitting: Set[str], source: str) -> None:
    own = {name for name in model.state_dict() if name.startswith("backbone.")}
    # The counters are younger than many files.
    missing = [name for name in own - fitting if not name.endswith("num_batches_tracked")]
    blocks = tuple(f"backbone.{block}." for block in model.backbone.blocks())
    foreign = [name for name in given - own if name.startswith(blocks)]
    if missing or foreign:
        name = model.description["backbone"]["name"]
        raise UserError(
            f"weights={source} is not of {name}: {len(missing)} of the backbone's {len(own)} tensors do not"
            f" fit and {len(foreign)} are unknown to it. Give the file of this backbone."
        )


def _named(model: Segmenter, state: Mapping[str, Any]) -> list[tuple[str, str, Tensor]]:
    """(key, our name, tensor) of each tensor; a file without "backbone." in it is a classifier's."""
    tensors = {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
    bare = {key: _unwrapped(key) for key in tensors}
    if any(name.startswith("backbone.") for name in bare.values()):
        return [(key, _in_segmenter(bare[key]), value) for key, value in tensors.items()]
    return [(key, f"backbone.{model.backbone.key(bare[key])}", value) for key, value in tensors.items()]


def _unwrapped(key: str) -> str:
    while wrapper := next((prefix for prefix in _WRAPPERS if key.startswith(prefix)), ""):
        key = key.removeprefix(wrapper)
    return key


def _in_segmenter(name: str) -> str:
    prefix = next((prefix for prefix in _HEADS if name.startswith(prefix)), "")
    return _HEADS.get(prefix, "") + name.removeprefix(prefix)


def _layer(name: str) -> str:
    return name.rpartition(".")[0]
