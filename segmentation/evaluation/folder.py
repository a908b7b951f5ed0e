"""The folder of results: never one that holds others'."""

import re
from pathlib import Path

import numpy as np

from segmentation.classes import Classes
from segmentation.errors import UserError
from segmentation.evaluation.judge import Save
from segmentation.inference.writing import save_mask

_OURS = (
    *(f"report.{ending}" for ending in ("json", "md", "html")),
    *("per_image.csv", "confusion.csv", "confusion.png"),
    *(f"{curve}.{ending}" for curve in ("roc", "pr", "reliability") for ending in ("csv", "png")),
    *("masks", "checkpoints"),
)


def refuse_used(folder: Path) -> None:
    """Raises `UserError` where results would be written over others, those of a training run among them."""
    for name in _OURS:
        if (folder / name).exists():
            raise UserError(f"{folder} already holds {name}: give another output=FOLDER.")


def subfolder(number: int, title: str) -> str:
    """The folder of one of several checkpoints: its number, and as much of its title as every system can name."""
    return f"{number}_{re.sub(r'[^A-Za-z0-9._-]+', '_', title)[:60]}"


def mask_writer(folder: Path, classes: Classes) -> Save:
    """Saves predicted labels in `folder` under the name of their image.

    What it returns raises `UserError` for a name that was there before, such as `a` and `A` where the file
    system holds them for one.
    """

    def save(name: str, labels_HW: np.ndarray) -> None:
        path = folder / f"{name}.png"
        if path.exists():
            raise UserError(f"{path} is there already: two images of the split share its name. Rename one.")
        save_mask(path, labels_HW, classes)

    return save
