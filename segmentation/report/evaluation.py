"""The results of an evaluation, the files that hold them, and those that are CSV."""

import csv
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segmentation.errors import UserError
from segmentation.types import Classes
from segmentation.writing import replacing

if TYPE_CHECKING:
    from segmentation.metrics.objects import (
        ObjectRules,
    )  # imports torch, which the doctor's page does not need

RANKING_SCORE = {True: "iou", False: "miou"}
"""The score that ranks images: the foreground's IoU for binary data, else the mean over classes."""


@dataclass(frozen=True)
class ImageScores:
    """One image of the split: its index in it, its scores and its IoU of each class (K,), 0..1 or nan.

    `objects` has the counts of `metrics.objects.tally`; none where objects were not evaluated.
    """

    name: str
    index: int
    scores: Mapping[str, float]
    ious: np.ndarray
    objects: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """The results of one checkpoint on one split.

    `confusion` (K, K) counts pixels: rows are truth, columns are prediction. `images` are sorted from worst to best.
    `curves` is what `EvaluationMetrics.curves` returns. `report` is the content of `report.json`: metrics, per_class,
    protocol, model, data, environment, seconds, and objects where these were evaluated, by the rules in `objects`.
    """

    title: str
    classes: Classes
    split: str
    report: Mapping[str, Any]
    confusion: np.ndarray
    curves: Mapping[str, Any]
    images: tuple[ImageScores, ...]
    objects: "ObjectRules | None" = None

    @property
    def main(self) -> str:
        """The name of the score that ranks the images."""
        return RANKING_SCORE[self.classes.binary]

    @property
    def scored(self) -> range:
        """The classes that have curves: all of them, or only the foreground for binary data."""
        return range(1 if self.classes.binary else 0, len(self.classes))


def worst_first(images: list[ImageScores], *, binary: bool) -> tuple[ImageScores, ...]:
    """Sort by the main score, then by name. Images without that score come last: nothing in them was wrong."""

    def rank(image: ImageScores) -> tuple[float, str]:
        score = image.scores[RANKING_SCORE[binary]]
        return (math.inf if math.isnan(score) else score), image.name

    return tuple(sorted(images, key=rank))


_OURS = (
    *(f"report.{ending}" for ending in ("json", "md", "html")),
    *("per_image.csv", "objects.csv", "confusion.csv", "confusion.png"),
    *(f"{curve}.{ending}" for curve in ("roc", "pr", "reliability") for ending in ("csv", "png")),
    *("masks", "checkpoints"),
)


def refuse_used_folder(folder: Path) -> None:
    """Raises `UserError` if results, or a training run's checkpoints, are in the folder already."""
    for name in _OURS:
        if os.path.lexists(folder / name):  # also a link to nothing
            raise UserError(f"{folder} already holds {name}: give another output=FOLDER.")


_CURVES = {
    "roc": ("threshold", "false_positive_rate", "true_positive_rate"),
    "pr": ("threshold", "recall", "precision"),
}


def write_csvs(folder: Path, evaluation: Evaluation) -> None:
    """Write `per_image.csv` (worst image first), `confusion.csv`, `roc.csv`, `pr.csv` and `reliability.csv`.

    The cell of an undefined number is empty.
    """
    _write_images(folder / "per_image.csv", evaluation)
    _write_confusion(folder / "confusion.csv", evaluation)
    for kind, columns in _CURVES.items():
        _write_curve(folder / f"{kind}.csv", evaluation, kind, columns)
    bins = evaluation.curves["reliability"]
    _write(folder / "reliability.csv", list(bins[0]), ([*map(_cell, row.values())] for row in bins))


def _write_images(path: Path, evaluation: Evaluation) -> None:
    names = evaluation.classes.names
    scores = list(evaluation.images[0].scores) if evaluation.images else []
    first = [evaluation.main, *(score for score in scores if score != evaluation.main)]
    by_class = [] if evaluation.classes.binary else [f"iou/{name}" for name in names]
    counts = list(evaluation.images[0].objects) if evaluation.images else []
    rows = (
        [
            image.name,
            *(_cell(image.scores[score]) for score in first),
            *([] if evaluation.classes.binary else map(_cell, image.ious.tolist())),
            *image.objects.values(),
        ]
        for image in evaluation.images
    )
    _write(path, ["name", *first, *by_class, *counts], rows)


def _write_confusion(path: Path, evaluation: Evaluation) -> None:
    names = evaluation.classes.names
    rows = ([name, *counts.tolist()] for name, counts in zip(names, evaluation.confusion, strict=True))
    _write(path, ["truth \\ prediction", *names], rows)


def _write_curve(path: Path, evaluation: Evaluation, kind: str, columns: Sequence[str]) -> None:
    rows = (
        [evaluation.classes.names[label], *map(_cell, point)]
        for label, curve in zip(evaluation.scored, evaluation.curves[kind], strict=True)
        for point in zip(*(curve[column] for column in columns), strict=True)
    )
    _write(path, ["class", *columns], rows)


def _cell(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.6g}"


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    # File names need not be UTF-8: Python keeps their other bytes as surrogates.
    with replacing(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
