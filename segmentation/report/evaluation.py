"""What an evaluation found, as the writers of its files take it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from segmentation.classes import Classes

MAIN = {True: "iou", False: "miou"}
"""The score that ranks images: the foreground's IoU for binary data, else the mean over classes."""


@dataclass(frozen=True)
class ImageScores:
    """One image of the split: its place in it, its scores and its IoU by class (K,), 0..1 or nan."""

    name: str
    index: int
    scores: Mapping[str, float]
    ious: np.ndarray


@dataclass(frozen=True)
class Evaluation:
    """One checkpoint on one split.

    `confusion` (K, K) counts pixels, rows truth, columns prediction. `images` go from worst to best. `curves` is
    what `Judgement.curves` gives; `report` what `report.json` holds: metrics, per_class, protocol, model, data,
    environment, seconds.
    """

    title: str
    classes: Classes
    split: str
    report: Mapping[str, Any]
    confusion: np.ndarray
    curves: Mapping[str, Any]
    images: tuple[ImageScores, ...]

    @property
    def main(self) -> str:
        """The name of the score that ranks the images."""
        return MAIN[self.classes.binary]

    @property
    def scored(self) -> range:
        """The classes that the model gives probabilities of: the foreground alone for binary data."""
        return range(1 if self.classes.binary else 0, len(self.classes))


def worst_first(images: list[ImageScores], *, binary: bool) -> tuple[ImageScores, ...]:
    """By the main score, then by name; images in which it does not exist come last: nothing there was wrong."""

    def rank(image: ImageScores) -> tuple[float, str]:
        score = image.scores[MAIN[binary]]
        return (math.inf if math.isnan(score) else score), image.name

    return tuple(sorted(images, key=rank))
