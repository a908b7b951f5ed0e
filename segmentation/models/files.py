"""Reading weights from somebody's file, without running anything that it brings."""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segmentation.errors import UserError

_WORDS = ("none", "imagenet", "coco")
_ENUM = re.compile(r"[A-Z][A-Z0-9_]*")  # torchvision's way to name weights: IMAGENET1K_V2
_WRAPPERS = ("module.", "_orig_mod.", "model.")  # left in the keys by DDP, torch.compile and Lightning


def is_published(weights: str) -> bool:
    """Whether `weights=` means a backbone's, trained on ImageNet: by the word, or by torchvision's name of them."""
    return weights == "imagenet" or _ENUM.fullmatch(weights) is not None


def is_file(weights: str) -> bool:
    """Whether `weights=` means a file."""
    return weights not in _WORDS and not is_published(weights)


def unwrapped(key: str) -> str:
    """A tensor's name without what wrappers put before it."""
    while wrapper := next((prefix for prefix in _WRAPPERS if key.startswith(prefix)), ""):
        key = key.removeprefix(wrapper)
    return key


def read_state(path: Path) -> Mapping[str, Any]:
    """The state dict in a file: the whole of it, or what a checkpoint keeps under `state_dict` or `model`.

    Raises `UserError` for a file that is missing, damaged, something else, or that would run code,
    and for tensors that are not of plain finite numbers.
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
    for wrapping in ("state_dict", "model"):
        if isinstance(contents, dict) and isinstance(contents.get(wrapping), dict):
            contents = contents[wrapping]
    if not isinstance(contents, dict):
        raise UserError(f"weights={path} holds a {type(contents).__name__}, not a state dict.")
    for key, value in contents.items():
        if isinstance(value, Tensor) and not _is_plain(value):
            raise UserError(f"weights={path}: {key} holds no plain finite numbers. Give another file.")
    return contents


def _is_plain(value: Tensor) -> bool:
    if value.layout is not torch.strided or value.device.type != "cpu" or value.is_quantized:
        return False
    return (not value.is_floating_point() and not value.is_complex()) or (
        value.is_floating_point() and bool(value.isfinite().all())
    )
