"""A file of weights, which is read without running any code in it."""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segmentation import hub
from segmentation.config import checkpoint_file
from segmentation.errors import UserError, one_line

_KEYWORDS = ("none", "imagenet", "coco")
_ENUM = re.compile(r"[A-Z][A-Z0-9_]*")  # torchvision's names of weights, such as IMAGENET1K_V2

_LONGEST_LICENCE = 200
"""Letters of a note on a licence."""


@dataclass(frozen=True)
class WeightsFile:
    """The state dict of a file, and the names of the classes if it is a checkpoint of ours.

    `licence` is the note of that name in the file, or that of the weights which a checkpoint's training began with.
    """

    state: Mapping[str, Any]
    classes: tuple[str, ...] = ()
    licence: str = ""


def read_weights_file(weights: str) -> WeightsFile | None:
    """The contents if `weights` is a file, for `pretrained_options` and `load_weights`; None if it is a name.

    Raises `UserError` for a file that is missing, damaged, not a state dict, or would run code, and for tensors that
    are not plain and finite.
    """
    return _read_file(checkpoint_file(weights)) if is_weights_file(weights) else None


def is_weights_file(weights: str) -> bool:
    """Whether `weights` are the path of a file or a folder, or its address on the hub, and no name."""
    return weights not in _KEYWORDS and not _is_imagenet(weights)


def _is_imagenet(weights: str) -> bool:
    """Whether `weights` are those of a backbone trained on ImageNet: the keyword, or torchvision's name of them."""
    return weights == "imagenet" or _ENUM.fullmatch(weights) is not None


def _read_file(path: Path) -> WeightsFile:
    """The state dict is the whole file, or the entry `state_dict` or `model` of a checkpoint."""
    if not path.is_file():
        raise UserError(f"weights={path} is no file. Give imagenet, coco, none or the path of a state dict.")
    try:
        with warnings.catch_warnings(action="ignore"):  # about unusual pickles; the error below says more
            if path.suffix == ".safetensors":
                contents = hub.read_weights(path)
            else:
                contents = torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:  # torch raises many types; all mean that the file cannot be trusted
        raise UserError(
            f"weights={path} is damaged or holds more than weights, which could run code: it was not loaded."
            " Give a state dict of plain tensors."
        ) from error
    classes, licence = _class_names(contents), _licence(contents)
    for wrapping in ("state_dict", "model"):
        if isinstance(contents, dict) and isinstance(contents.get(wrapping), dict):
            contents = contents[wrapping]
    if not isinstance(contents, dict):
        raise UserError(f"weights={path} holds a {type(contents).__name__}, not a state dict.")
    for key, value in contents.items():
        if isinstance(value, Tensor) and not (is_dense(value) and _is_finite(value)):
            raise UserError(f"weights={path}: {key} holds no plain finite numbers. Give another file.")
    return WeightsFile(contents, classes, licence)


def is_dense(value: Tensor) -> bool:
    """Whether a tensor is an ordinary one, of real numbers, that takes as much memory as its shape says.

    Sparse, quantised and expanded tensors are not: a stranger's file of a kilobyte may claim gigabytes with them.
    """
    if value.layout is not torch.strided or value.device.type != "cpu":
        return False
    if value.is_quantized or value.is_complex():
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def _is_finite(value: Tensor) -> bool:
    """Whether a dense tensor holds whole numbers, or real numbers that are all finite."""
    return not value.is_floating_point() or bool(value.isfinite().all())


def _class_names(contents: Any) -> tuple[str, ...]:
    """The names in a checkpoint of ours; none for other files."""
    try:
        names = contents["segmentation"]["classes"]["names"]
        return tuple(names) if all(name.isprintable() for name in names) else ()
    except (AttributeError, KeyError, TypeError, IndexError, ValueError, RuntimeError):
        return ()


def _licence(contents: Any) -> str:
    """What a file says of the licence of its weights, in one line."""
    if not isinstance(contents, dict):
        return ""
    try:
        own = contents["segmentation"]["training"] if "segmentation" in contents else contents
        found = own.get("licence", own.get("license"))
    except (AttributeError, KeyError, TypeError):
        return ""
    return one_line(found)[:_LONGEST_LICENCE] if isinstance(found, str) else ""
