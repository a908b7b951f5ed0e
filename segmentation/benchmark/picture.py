"""`speed.png`: which models are fast for their size, and for their mIoU where it is known."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segmentation.benchmark.labels import Box, place
from segmentation.benchmark.row import Row
from segmentation.benchmark.table import varying_settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#4477aa", "#cc6677", "#228833", "#ccbb44", "#aa3377", "#66ccee", "#777777")
_LABEL_POINTS = 8.5


def draw(rows: Sequence[Row], picture: Path) -> None:
    """The figure as a PNG."""
    speed_figure(rows).savefig(picture)


def speed_figure(rows: Sequence[Row]) -> "Figure":
    """A bubble a model: images a second against parameters, and mIoU against images a second where it is known.

    A bubble's area is its operations; colours tell heads apart where there are several.
    """
    # Imported here: half a second. No pyplot: it wants a screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scored = [row for row in rows if row.score]
    figure = Figure(figsize=(20 if scored else 11, 8), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2 if scored else 1, squeeze=False)[0]
    rate = "images/s in prediction, by batches"
    by_size = [(row.parameters / 1e6, row.infer_rate) for row in rows]
    _scatter(panels[0], rows, by_size, rows)
    panels[0].set(xscale="log", yscale="log", xlabel="parameters, millions", ylabel=rate)
    scores = [row.score for row in rows if row.score]
    by_score = [(row.infer_rate, score["mean"]) for row, score in zip(scored, scores, strict=True)]
    if scored:
        _scatter(panels[1], scored, by_score, rows)
        panels[1].set(xscale="log", xlabel=rate, ylabel=f"mIoU ({scores[0]['metric']})")
    for axes in panels:
        _finish(axes)
    # Labels are placed in pixels, which the layout settles.
    canvas.draw()
    figure.set_layout_engine("none")
    for axes, shown, points in zip(panels, (rows, scored), (by_size, by_score), strict=False):
        _label(axes, shown, points, rows)
    return figure


def _scatter(
    axes: "Axes", shown: Sequence[Row], points: Sequence[tuple[float, float]], rows: Sequence[Row]
) -> None:
    heads = list(dict.fromkeys(row.settings["head"] for row in rows))
    for index, head in enumerate(heads):
        of_head = [
            (point, _diameter(row, rows) ** 2)
            for row, point in zip(shown, points, strict=True)
            if row.settings["head"] == head
        ]
        if of_head:
            (across, up), areas = (
                zip(*(point for point, _ in of_head), strict=True),
                [area for _, area in of_head],
            )
            colour = _COLOURS[index % len(_COLOURS)]
            axes.scatter(across, up, s=areas, color=colour, alpha=0.55, linewidths=0, label=head)
    if len(heads) > 1:
        axes.legend(title="head")


def _finish(axes: "Axes") -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.set_minor_formatter(NullFormatter())
    axes.set_title("area: operations of a forward pass", fontsize=_LABEL_POINTS, loc="left")
    axes.grid(alpha=0.3)
    axes.margins(0.1)


def _title(row: Row, rows: Sequence[Row]) -> str:
    """The backbone, and what sets the row apart from others with the same one; the head is a colour."""
    namesakes = [other for other in rows if other.backbone == row.backbone]
    return " ".join(
        [row.backbone, *(row.settings[name] for name in varying_settings(namesakes) if name != "head")]
    )


def _label(
    axes: "Axes", shown: Sequence[Row], points: Sequence[tuple[float, float]], rows: Sequence[Row]
) -> None:
    pixels = axes.figure.dpi / 72
    at = [(float(x), float(y)) for x, y in axes.transData.transform(points)]
    radii = [_diameter(row, rows) / 2 * pixels for row in shown]
    texts = [
        axes.annotate(
            _title(row, rows),
            at[index],
            xycoords="figure pixels",
            fontsize=_LABEL_POINTS,
            ha="center",
            va="center",
        )
        for index, row in enumerate(shown)
    ]
    extents = [text.get_window_extent() for text in texts]
    sizes = [(extent.width + 2 * pixels, extent.height + pixels) for extent in extents]
    frame = Box(*axes.bbox.extents)
    for text, box, (x, y), radius in zip(texts, place(at, radii, sizes, frame), at, radii, strict=True):
        centre = ((box.left + box.right) / 2, (box.bottom + box.top) / 2)
        text.set_position(centre)
        nearest = (min(max(x, box.left), box.right), min(max(y, box.bottom), box.top))
        if math.dist(nearest, (x, y)) > radius + 4 * pixels:
            axes.annotate(
                "",
                (x, y),
                nearest,
                xycoords="figure pixels",
                textcoords="figure pixels",
                arrowprops={
                    "arrowstyle": "-",
                    "color": "#999999",
                    "linewidth": 0.6,
                    "shrinkA": 0,
                    "shrinkB": 0,
                },
            )


def _diameter(row: Row, rows: Sequence[Row]) -> float:
    """In points; the area is in proportion to the operations, down to what can still be seen."""
    return max(5.0, 26.0 * math.sqrt(row.flops / max(other.flops for other in rows)))
