"""`speed.png`: speed against parameters, and mIoU against speed where it is known, with the name of each model."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from segmentation.benchmark.results import Row, varying_settings
from segmentation.report.colours import GREY, HEADS
from segmentation.writing import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LABEL_POINTS = 8.5


def draw(rows: Sequence[Row], picture: Path) -> None:
    """Write the figure as a PNG."""
    with replacing(picture, "wb") as file:
        speed_figure(rows).savefig(file, format="png")


def speed_figure(rows: Sequence[Row]) -> "Figure":
    """Images per second against parameters and, where known, mIoU against images per second; a bubble per model.

    The area of a bubble shows the operations of a forward pass, its colour the head if there are several.
    """
    # Imported here because it takes half a second. Not pyplot, which may look for a screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scored = [row for row in rows if row.score]
    figure = Figure(figsize=(20 if scored else 11, 8), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2 if scored else 1, squeeze=False)[0]
    rate = "images/s in inference, by batches"
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
    # Labels are placed in pixels, which are known only after the layout.
    canvas.draw()
    figure.set_layout_engine("none")
    for axes, shown, points in zip(panels, (rows, scored), (by_size, by_score), strict=False):
        _label(axes, shown, points, rows)
    return figure


def _scatter(
    axes: "Axes", shown: Sequence[Row], points: Sequence[tuple[float, float]], rows: Sequence[Row]
) -> None:
    from matplotlib.collections import PathCollection

    heads = list(dict.fromkeys(row.settings["head"] for row in rows))
    for index, head in enumerate(heads):
        of_head = [
            (point, _diameter(row, rows) ** 2)
            for row, point in zip(shown, points, strict=True)
            if row.settings["head"] == head
        ]
        if of_head:
            across, up = zip(*(point for point, _ in of_head), strict=True)
            areas = [area for _, area in of_head]
            colour = HEADS[index % len(HEADS)]
            axes.scatter(across, up, s=areas, color=colour, alpha=0.55, linewidths=0, label=head)
    if len(heads) > 1:
        legend = axes.legend(title="head")
        for handle in legend.legend_handles:
            if isinstance(handle, PathCollection):
                handle.set_sizes([80])  # large bubbles would overlap


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
    """The backbone, with the settings in which rows of the same backbone differ (the head is shown by colour)."""
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
                    "color": GREY,
                    "linewidth": 0.6,
                    "shrinkA": 0,
                    "shrinkB": 0,
                },
            )


def _diameter(row: Row, rows: Sequence[Row]) -> float:
    """In points. The area is proportional to the operations, down to the smallest visible size."""
    return max(5.0, 26.0 * math.sqrt(row.flops / max(other.flops for other in rows)))


_DIRECTIONS = 24
_RINGS = 16


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: "Box") -> float:
        """The area of the intersection."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(width, 0.0) * max(height, 0.0)

    @property
    def area(self) -> float:
        """The area in square pixels."""
        return (self.right - self.left) * (self.top - self.bottom)

    @classmethod
    def around(cls, x: float, y: float, width: float, height: float) -> "Box":
        """The box of this size around a centre."""
        return cls(x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def place(
    points: Sequence[tuple[float, float]],
    radii: Sequence[float],
    sizes: Sequence[tuple[float, float]],
    frame: Box,
) -> list[Box]:
    """Boxes for the labels (width, height) of points, inside the frame and clear of other labels and of the points.

    Takes the nearest free place, ring by ring around the point, or the place with the least overlap if none is free.
    Points are circles of these radii. All in pixels.
    """
    circles = [Box.around(x, y, 2 * radius, 2 * radius) for (x, y), radius in zip(points, radii, strict=True)]
    placed: dict[int, Box] = {}
    # Labels in crowded places first: the others have more room.
    for index in sorted(range(len(points)), key=lambda index: _crowd(points, index)):
        taken = [*circles, *placed.values()]
        candidates = _candidates(points[index], radii[index], sizes[index])
        placed[index] = _freest(candidates, taken, frame)
    return [placed[index] for index in range(len(points))]


def _freest(candidates: Iterable[Box], taken: Sequence[Box], frame: Box) -> Box:
    best, least = None, math.inf
    for box in candidates:
        hidden = sum(map(box.overlap, taken)) + 10 * (box.area - box.overlap(frame))
        if best is None or hidden < least:
            best, least = box, hidden
        if least < 1e-6:
            break
    assert best is not None
    return best


def _candidates(point: tuple[float, float], radius: float, size: tuple[float, float]) -> Iterator[Box]:
    (x, y), (width, height) = point, size
    for ring in range(_RINGS):
        distance = radius + 2 + ring * height / 2
        for direction in range(_DIRECTIONS):
            angle = 2 * math.pi * direction / _DIRECTIONS
            # This is the distance of the label's near edge, not of its centre.
            across = (distance + width / 2) * math.cos(angle)
            up = (distance + height / 2) * math.sin(angle)
            yield Box.around(x + across, y + up, width, height)


def _crowd(points: Sequence[tuple[float, float]], index: int) -> float:
    """Lower where other points are nearer."""
    return -sum(1 / (1 + math.dist(points[index], other)) for other in points)
