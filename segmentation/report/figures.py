"""PNG figures of an evaluation: curves and confusion matrix."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from segmentation.report.evaluation import Evaluation
from segmentation.report.svg import Chart, charts

_MANY = 20
"""With more classes than this, cells show no number and curves no legend, because nobody could read them."""


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
    with warnings.catch_warnings(action="ignore"):  # about letters that the font lacks; they become boxes
        FigureCanvasAgg(figure).print_png(path)


def _confusion(figure: Any, evaluation: Evaluation) -> None:
    names, counts = evaluation.classes.names, evaluation.confusion
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = float(np.clip(2.5 + 0.45 * len(names), 4.5, 16))
    figure.set_size_inches(side + 1, side)
    axes = figure.subplots()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    labels = [plain_text(name) for name in names]
    axes.set_xticks(range(len(names)), labels, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), labels)
    axes.set(xlabel="prediction", ylabel="truth", title="share of each true class's pixels")
    if len(names) <= _MANY:
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
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle=":")
    for line in chart.lines:
        axes.plot(
            *zip(*line.points, strict=True), color=line.colour, linewidth=1.4, label=plain_text(line.label)
        )
    axes.set(title=chart.title, xlabel=chart.x, ylabel=chart.y, xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.grid(alpha=0.3)
    if 1 <= len(chart.lines) <= _MANY:
        axes.legend(fontsize=8)


def plain_text(name: str) -> str:
    """Escape a name for matplotlib, where a dollar sign would start a formula."""
    return name.encode(errors="replace").decode().replace("$", r"\$")
