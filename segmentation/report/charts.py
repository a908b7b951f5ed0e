"""The curves of an evaluation as lines in the unit square, for the page and for the figures."""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segmentation.classes import Colour
from segmentation.report.evaluation import Evaluation
from segmentation.report.text import number

Point = tuple[float, float]

_POINTS = 160
"""Points of a line on the page; more cannot be seen."""

_DARKEST, _LIGHTEST = 0.38, 0.62
"""Lightness 0..1 of a line."""


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


def line_colours(palette: Sequence[Colour]) -> list[str]:
    """For each class a colour that shows on white and on black: #rrggbb.

    It is the class's own, made lighter or darker where it must be; where two would then be the same, others for all.
    """
    own = [_legible(colour) for colour in palette]
    return own if len(set(own)) == len(own) else [_spread(index) for index in range(len(own))]


def _legible(colour: Colour) -> str:
    hue, lightness, saturation = colorsys.rgb_to_hls(*(part / 255 for part in colour))
    return _hexadecimal(hue, min(max(lightness, _DARKEST), _LIGHTEST), saturation)


def _spread(index: int) -> str:
    # Steps of the golden ratio around the circle of hues keep neighbours far apart.
    return _hexadecimal((0.58 + index * 0.618034) % 1, 0.5 if index % 2 else 0.56, 0.62)


def _hexadecimal(hue: float, lightness: float, saturation: float) -> str:
    return "#" + bytes(round(part * 255) for part in colorsys.hls_to_rgb(hue, lightness, saturation)).hex()


def _lines(evaluation: Evaluation, kind: str, x: str, y: str) -> list[Line]:
    lines = []
    colours = line_colours(evaluation.classes.palette)
    for label, curve in zip(evaluation.scored, evaluation.curves[kind], strict=True):
        if curve[x]:
            name = evaluation.classes.names[label]
            area = number(evaluation.report["per_class"][name][f"{kind}_auc"])
            lines.append(
                Line(
                    label,
                    f"{name} {area}",
                    colours[label],
                    _thin(curve[x], curve[y]),
                )
            )
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
        [Line(-1, "measured", _spread(0), points)] if points else [],
        diagonal=True,
        bars=[(row["low"], row["high"], row["pixels"] / total) for row in filled],
    )
