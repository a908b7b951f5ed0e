"""The curves of an evaluation as lines in the unit square, for the page and for the figures."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segmentation.report.evaluation import Evaluation
from segmentation.report.lines import MEASURED, line_colours
from segmentation.report.text import number

Point = tuple[float, float]

_POINTS = 160
"""Points of a line on the page; more cannot be seen."""


@dataclass(frozen=True)
class Line:
    """The curve of class `index`, from 0..1 to 0..1."""

    index: int
    label: str
    colour: str
    points: Sequence[Point]


@dataclass(frozen=True)
class Chart:
    """Lines over two axes of 0..1; `bars` are (left, right, height) behind them, `caption` says how to read it."""

    key: str
    title: str
    caption: str
    x: str
    y: str
    lines: Sequence[Line]
    diagonal: bool = False
    bars: Sequence[tuple[float, float, float]] = ()


def charts(evaluation: Evaluation) -> list[Chart]:
    """ROC, precision-recall and reliability; what is not defined for a class, or without a valid pixel, has no line."""
    return [
        Chart(
            "roc",
            "ROC",
            "What is found against what is wrongly found, as the threshold falls; the diagonal is chance.",
            "false positive rate",
            "recall",
            _lines(evaluation, "roc", "false_positive_rate", "true_positive_rate"),
            diagonal=True,
        ),
        Chart(
            "pr",
            "Precision and recall",
            "How much of what is found is right; the area is the average precision.",
            "recall",
            "precision",
            _lines(evaluation, "pr", "recall", "precision"),
        ),
        _reliability(evaluation),
    ]


def _lines(evaluation: Evaluation, kind: str, x: str, y: str) -> list[Line]:
    lines = []
    colours = line_colours([evaluation.classes.palette[label] for label in evaluation.scored])
    for label, colour, curve in zip(evaluation.scored, colours, evaluation.curves[kind], strict=True):
        if curve[x]:
            name = evaluation.classes.names[label]
            area = number(evaluation.report["per_class"][name][f"{kind}_auc"])
            lines.append(Line(label, f"{name} {area}", colour, _thin(curve[x], curve[y])))
    return lines


def _thin(x: Sequence[float], y: Sequence[float]) -> list[Point]:
    points = np.stack([np.asarray(x, float), np.asarray(y, float)], axis=1)
    length = np.concatenate([[0], np.abs(np.diff(points, axis=0)).sum(1).cumsum()])
    # Even steps along the line, not along the list: most points of a good model lie in one corner.
    places = np.searchsorted(length, np.linspace(0, length[-1], _POINTS))
    kept = np.unique(np.clip(places, 0, len(points) - 1))
    return [(round(float(left), 4), round(float(up), 4)) for left, up in points[kept]]


def _reliability(evaluation: Evaluation) -> Chart:
    filled = [row for row in evaluation.curves["reliability"] if row["pixels"]]
    points = [(row["confidence"], row["accuracy"]) for row in filled]
    total = sum(row["pixels"] for row in filled)
    binary = evaluation.classes.binary
    return Chart(
        "reliability",
        "Reliability",
        "Bars: share of the pixels. Line: as measured; on the diagonal, confidence tells the truth.",
        "probability of foreground" if binary else "confidence",
        "share of foreground" if binary else "share right",
        [Line(-1, "measured", MEASURED, points)] if points else [],
        diagonal=True,
        bars=[(row["low"], row["high"], row["pixels"] / total) for row in filled],
    )
