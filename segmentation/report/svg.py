"""Charts as the page's templates draw them: places in a picture of 340 x 318."""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from segmentation.report.evaluation import Evaluation
from segmentation.report.report import number
from segmentation.types import Colour, hexadecimal

# MERGED FROM report/lines: Colours for the lines of charts, on white paper and on a dark page.
# MERGED FROM report/charts: The curves of an evaluation as lines in the unit square, for the page and for the figur

MEASURED = "#3478c6"
"""A line that belongs to no class."""

_DARKEST, _LIGHTEST = 0.14, 0.30
"""Relative luminance (WCAG 2.2): a contrast of 3 to white, and to the dark page."""

_APART = 40
"""Two colours that differ by less in each of red, green and blue look alike in a thin line."""

_HUES = 24


def line_colours(palette: Sequence[Colour]) -> list[str]:
    """For each class a colour that can be seen, #rrggbb.

    It is the class's own, made lighter or darker where it must be, or where an earlier class looks like it; where that
    does not help, one of another hue. With dozens of classes some are alike.
    """
    others = [_bright((index * 0.618034 % 1, 0.5, 0.62), _LIGHTEST) for index in range(_HUES)]
    chosen: list[Colour] = []
    for colour in palette:
        hls = colorsys.rgb_to_hls(*(part / 255 for part in colour))
        own = [_bright(hls, min(max(luminance(colour), _DARKEST), _LIGHTEST))]
        own += [_bright(hls, _DARKEST), _bright(hls, _LIGHTEST)]
        fits = (one for one in chain(own, others) if all(_differ(one, other) for other in chosen))
        chosen.append(next(fits, own[0]))
    return [hexadecimal(colour) for colour in chosen]


def luminance(colour: Colour) -> float:
    """Relative luminance, 0 (black) to 1 (white), as WCAG 2.2 defines it."""
    red, green, blue = (
        share / 12.92 if (share := part / 255) <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4
        for part in colour
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _bright(hls: tuple[float, float, float], wanted: float) -> Colour:
    """The colour of this hue and saturation with the luminance that is wanted, by bisection of its lightness."""
    hue, _, saturation = hls
    low, high = 0.0, 1.0
    for _ in range(10):
        middle = (low + high) / 2
        red, green, blue = (round(part * 255) for part in colorsys.hls_to_rgb(hue, middle, saturation))
        low, high = (middle, high) if luminance((red, green, blue)) < wanted else (low, middle)
    return red, green, blue


def _differ(one: Colour, other: Colour) -> bool:
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) >= _APART


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


_LEFT, _TOP, _WIDTH, _HEIGHT = 50, 10, 280, 260
"""Where the unit square lies in a chart of the page."""


def drawn(chart: Chart) -> dict[str, Any]:
    """A chart with its places in the drawing."""
    return {
        "title": chart.title,
        "caption": chart.caption,
        "x": chart.x,
        "y": chart.y,
        "diagonal": chart.diagonal,
        "lines": [
            {
                "index": line.index,
                "label": line.label,
                "colour": line.colour,
                "points": " ".join(f"{x:g},{y:g}" for x, y in map(_place, line.points)),
            }
            for line in chart.lines
        ],
        "dots": [_place(point) for line in chart.lines if chart.bars for point in line.points],
        "bars": [_bar(*bar) for bar in chart.bars],
    }


def _place(point: tuple[float, float]) -> tuple[float, float]:
    x, y = point
    return round(_LEFT + _WIDTH * x, 1), round(_TOP + _HEIGHT * (1 - y), 1)


def _bar(left: float, right: float, height: float) -> dict[str, Any]:
    (x, y), (end, _) = _place((left, height)), _place((right, height))
    text = f"{left:.2f} to {right:.2f}: {height:.1%} of the pixels"
    return {
        "x": x,
        "y": y,
        "width": round(end - x - 1, 1),
        "height": round(_TOP + _HEIGHT - y, 1),
        "text": text,
    }


TICKS = [
    {"x": x, "y": y, "text": f"{share:g}"}
    for share in (0, 0.25, 0.5, 0.75, 1)
    for x, y in [_place((share, share))]
]
"""The rules of a chart."""
