"""The charts of an evaluation (ROC, precision-recall, reliability), and its PNG figures."""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segmentation.report.colours import CONFUSION_MAP, GREY, RELIABILITY_LINE, line_colours
from segmentation.report.evaluation import Evaluation
from segmentation.report.report import number
from segmentation.report.svg import Axis, Chart, Dot, Line, Point
from segmentation.writing import replacing

_MAX_POINTS = 160
"""Points of a curve; more cannot be seen."""

_MAX_CLASSES = 20
"""With more classes than this, cells show no number and curves no legend, because nobody could read them."""


def charts(evaluation: Evaluation) -> list[Chart]:
    """ROC, precision-recall and reliability over all valid pixels. An undefined curve has no line."""
    used = " Dot: the threshold that was used." if evaluation.classes.binary else ""
    return [
        Chart(
            "roc",
            "ROC",
            f"Recall against false positive rate, as the threshold falls; the diagonal is chance.{used}",
            Axis("false positive rate"),
            Axis("recall"),
            lines=_curves(evaluation, "roc", "false_positive_rate", "true_positive_rate"),
            dots=_operating_point(evaluation, "false_positive_rate", "recall"),
            diagonal=True,
        ),
        Chart(
            "pr",
            "Precision and recall",
            "Share of right pixels among those found; the area under the line is the average precision."
            + (f" Dashed: chance, the share of the foreground.{used}" if used else ""),
            Axis("recall"),
            Axis("precision"),
            lines=[*_curves(evaluation, "pr", "recall", "precision"), *_chance(evaluation)],
            dots=_operating_point(evaluation, "recall", "precision"),
        ),
        _reliability(evaluation),
    ]


def _curves(evaluation: Evaluation, kind: str, x: str, y: str) -> list[Line]:
    lines = []
    colours = line_colours([evaluation.classes.palette[label] for label in evaluation.scored])
    for label, colour, curve in zip(evaluation.scored, colours, evaluation.curves[kind], strict=True):
        if curve[x]:
            name = evaluation.classes.names[label]
            area = number(evaluation.report["per_class"][name][f"{kind}_auc"])
            lines.append(Line(_thinned(curve[x], curve[y]), colour, f"{name} {area}", label, name))
    return lines


def _operating_point(evaluation: Evaluation, x: str, y: str) -> list[Dot]:
    """Where the labels of binary data lie; none for several classes, or if it is undefined."""
    if not evaluation.classes.binary:
        return []
    (background, false_alarms), (misses, found) = evaluation.confusion.tolist()
    values = {
        "false_positive_rate": _ratio(false_alarms, false_alarms + background),
        "recall": _ratio(found, found + misses),
        "precision": _ratio(found, found + false_alarms),
    }
    if math.isnan(values[x] + values[y]):
        return []
    threshold = evaluation.report["protocol"]["threshold"]
    return [Dot(values[x], values[y], f"threshold {threshold}", radius=4.5)]


def _chance(evaluation: Evaluation) -> list[Line]:
    """The precision of guessing in binary data: the foreground's share of the pixels."""
    share = _ratio(evaluation.confusion[1].sum(), evaluation.confusion.sum())
    if not evaluation.classes.binary or math.isnan(share):
        return []
    return [Line([(0, share), (1, share)], GREY, f"chance {number(share)}", dashed=True)]


def _ratio(part: int, whole: int) -> float:
    return float(part / whole) if whole else math.nan


def _thinned(x: Sequence[float], y: Sequence[float]) -> list[Point]:
    points = np.stack([np.asarray(x, float), np.asarray(y, float)], axis=1)
    length = np.concatenate([[0], np.abs(np.diff(points, axis=0)).sum(1).cumsum()])
    # Even steps along the curve, not along the list: most points of a good model lie in one corner.
    indices = np.searchsorted(length, np.linspace(0, length[-1], _MAX_POINTS))
    kept = np.unique(np.clip(indices, 0, len(points) - 1))
    return [(round(float(left), 4), round(float(up), 4)) for left, up in points[kept]]


def _reliability(evaluation: Evaluation) -> Chart:
    bins, binary = evaluation.curves["reliability"], evaluation.classes.binary
    filled = [row for row in bins if row["pixels"]]
    points = [(row["confidence"], row["accuracy"]) for row in filled]
    before = [(row["confidence_before"], row["accuracy_before"]) for row in bins if row.get("pixels_before")]
    total = sum(row["pixels"] for row in filled)
    temperature = evaluation.report["protocol"].get("temperature")
    measured = f"temperature {temperature:.3g}" if temperature else "measured"
    return Chart(
        "reliability",
        "Reliability",
        "Line: share of right pixels at each confidence; on the diagonal both agree. Bars: share of the pixels."
        + (f" Dashed: without the temperature of {temperature:.3g}." if temperature else ""),
        Axis("probability of foreground" if binary else "confidence"),
        Axis("share of foreground" if binary else "share right"),
        lines=[
            *([Line(before, GREY, "without temperature", dashed=True)] if before else []),
            *([Line(points, RELIABILITY_LINE, measured)] if points else []),
        ],
        dots=[Dot(*point) for point in points],
        bars=[(row["low"], row["high"], row["pixels"] / total) for row in filled],
        diagonal=True,
    )


def draw_figures(folder: Path, evaluation: Evaluation) -> None:
    """Write `confusion.png`, `roc.png`, `pr.png` and `reliability.png`."""
    _draw(folder / "confusion.png", _confusion, evaluation)
    for chart in charts(evaluation):
        _draw(folder / f"{chart.key}.png", _chart, chart)


def _draw(path: Path, paint: Any, subject: Any) -> None:
    # Imported here because it takes half a second. Not pyplot, which may look for a screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    paint(figure, subject)
    # Warnings are about letters that the font lacks; they become boxes.
    with warnings.catch_warnings(action="ignore"), replacing(path, "wb") as file:
        FigureCanvasAgg(figure).print_png(file)


def _confusion(figure: Any, evaluation: Evaluation) -> None:
    names, counts = evaluation.classes.names, evaluation.confusion
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = float(np.clip(2.5 + 0.45 * len(names), 4.5, 16))
    figure.set_size_inches(side + 1, side)
    axes = figure.subplots()
    picture = axes.imshow(shares, cmap=CONFUSION_MAP, vmin=0, vmax=1)
    labels = [plain_text(name) for name in names]
    axes.set_xticks(range(len(names)), labels, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), labels)
    axes.set(xlabel="prediction", ylabel="truth", title="share of each true class's pixels")
    if len(names) <= _MAX_CLASSES:
        for row, column in np.ndindex(*shares.shape):
            ink = "white" if shares[row, column] > 0.5 else "black"
            axes.text(
                column, row, f"{shares[row, column]:.2f}", ha="center", va="center", color=ink, fontsize=8
            )
    figure.colorbar(picture, ax=axes, shrink=0.8)


def _chart(figure: Any, chart: Chart) -> None:
    figure.set_size_inches(6, 5)
    axes = figure.subplots()
    if chart.diagonal:
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    for line in chart.lines:
        style = "--" if line.dashed else "-"
        label = plain_text(line.label)
        axes.plot(*zip(*line.points, strict=True), style, color=line.colour, linewidth=1.4, label=label)
    for dot in chart.dots:
        axes.plot(dot.x, dot.y, "o", color=RELIABILITY_LINE, markersize=1.5 * dot.radius)
    axes.set(
        title=chart.title, xlabel=chart.x.label, ylabel=chart.y.label, xlim=(-0.01, 1.01), ylim=(-0.01, 1.01)
    )
    axes.grid(alpha=0.3)
    if 1 <= len(chart.lines) <= _MAX_CLASSES:
        axes.legend(fontsize=8)


def plain_text(name: str) -> str:
    """Escape a name for matplotlib: a dollar sign would start a formula, an underscore hide it from a legend."""
    shown = name.encode(errors="replace").decode().replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown
