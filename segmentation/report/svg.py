"""The chart engine of report and leaderboard pages: axes, lines, bars and labelled dots, placed in an SVG drawing.

`draw` turns a `Chart` into the values that the macro `chart` in templates/parts.html.j2 writes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """An axis with the values at its ends."""

    label: str
    low: float = 0.0
    high: float = 1.0
    logarithmic: bool = False

    @classmethod
    def around(cls, label: str, values: Sequence[float], *, logarithmic: bool = False) -> "Axis":
        """An axis that holds all values, with a margin at both ends."""
        low, high = min(values), max(values)
        if logarithmic:
            margin = max(1.3, (high / low) ** 0.12)
            return cls(label, low / margin, high * margin, True)
        margin = 0.14 * (high - low) or 0.05 * abs(high) or 0.05
        return cls(label, low - margin, high + margin)

    def share(self, value: float) -> float:
        """Where the value lies: 0 at the low end, 1 at the high end."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round numbers between the ends."""
        if self.logarithmic and self.high / self.low > 4:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            values = [step * 10.0**power for power in powers for step in (1, 2, 5)]
        else:
            rough = (self.high - self.low) / 4
            power = 10.0 ** math.floor(math.log10(rough))
            width = next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= rough)
            values = [
                width * count for count in range(math.ceil(self.low / width), int(self.high / width) + 1)
            ]
        return [value for value in values if self.low <= value <= self.high]


@dataclass(frozen=True)
class Frame:
    """The size of a drawing and the edges of its plot area, in SVG units."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int


SQUARE = Frame(340, 318, left=50, right=330, top=10, bottom=270)
WIDE = Frame(900, 400, left=62, right=882, top=14, bottom=344)


@dataclass(frozen=True)
class Line:
    """A line through points; `index` and `name` are of the class that it belongs to, -1 for none."""

    points: Sequence[Point]
    colour: str
    label: str = ""
    index: int = -1
    name: str = ""
    dashed: bool = False


@dataclass(frozen=True)
class Dot:
    """A dot at (x, y); `rank` is written beside it, `low` and `high` are the ends of its error bar."""

    x: float
    y: float
    title: str = ""
    radius: float = 3.0
    rank: int | None = None
    front: bool = False
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Chart:
    """Bars (left, right, height), lines and dots over two axes. `caption` says how to read the chart.

    The height of a bar is a share of what `bars_of` names.
    """

    key: str
    title: str
    caption: str
    x: Axis
    y: Axis
    lines: Sequence[Line] = ()
    dots: Sequence[Dot] = ()
    bars: Sequence[tuple[float, float, float]] = ()
    diagonal: bool = False
    frame: Frame = SQUARE
    bars_of: str = "the pixels"


def draw(chart: Chart) -> dict[str, Any]:
    """The chart with all places in SVG units, as the template takes it."""
    frame, decimals = chart.frame, 2 if chart.x.high <= 1 else 0

    def x_of(value: float) -> float:
        return round(frame.left + (frame.right - frame.left) * chart.x.share(value), 1)

    def y_of(value: float) -> float:
        return round(frame.bottom - (frame.bottom - frame.top) * chart.y.share(value), 1)

    return {
        "title": chart.title,
        "caption": chart.caption,
        "x": chart.x.label,
        "y": chart.y.label,
        "frame": frame,
        "x_ticks": [{"at": x_of(tick), "text": f"{tick:.6g}"} for tick in chart.x.ticks()],
        "y_ticks": [{"at": y_of(tick), "text": f"{tick:.6g}"} for tick in chart.y.ticks()],
        "diagonal": chart.diagonal,
        "lines": [
            {
                "index": line.index,
                "name": line.name,
                "label": line.label,
                "colour": line.colour,
                "dashed": line.dashed,
                "points": " ".join(f"{x_of(x):g},{y_of(y):g}" for x, y in line.points),
            }
            for line in chart.lines
        ],
        "bars": [
            {
                "x": x_of(left),
                "y": y_of(height),
                "width": round(x_of(right) - x_of(left) - 1, 1),
                "height": round(frame.bottom - y_of(height), 1),
                "text": f"{left:.{decimals}f} to {right:.{decimals}f}: {height:.1%} of {chart.bars_of}",
            }
            for left, right, height in chart.bars
        ],
        "dots": _draw_dots(chart.dots, x_of, y_of),
    }


def _draw_dots(
    dots: Sequence[Dot], x_of: Callable[[float], float], y_of: Callable[[float], float]
) -> list[dict[str, Any]]:
    places = {
        dot.rank: (x_of(dot.x) + dot.radius + _GAP, y_of(dot.y)) for dot in dots if dot.rank is not None
    }
    labels = rank_labels(places)
    return [
        {
            "x": x_of(dot.x),
            "y": y_of(dot.y),
            "title": dot.title,
            "radius": dot.radius,
            "rank": dot.rank,
            "front": dot.front,
            "top": None if dot.high is None else y_of(dot.high),
            "bottom": None if dot.low is None else y_of(dot.low),
            "label": None if dot.rank is None else labels.get(dot.rank),
        }
        # Large dots first, because they would hide small ones.
        for dot in sorted(dots, key=lambda dot: -dot.radius)
    ]


_GAP = 4.0
"""Distance from a dot to its label."""

_CHARACTER_WIDTH, _LINE_HEIGHT = 8.0, 13.0
"""Room for the text of a label, generously."""

_MAX_RANGES = 3
"""A label with more ranges of ranks ends in dots; the table has them all."""


@dataclass(frozen=True)
class Label:
    """Ranks written at one place: the left end of the text, and the ranks, best first."""

    x: float
    y: float
    ranks: tuple[int, ...]

    @property
    def text(self) -> str:
        """The ranks as `1-3, 5`: a short label overlaps fewer others."""
        starts = [rank for rank in self.ranks if rank - 1 not in self.ranks]
        ends = [rank for rank in self.ranks if rank + 1 not in self.ranks]
        ranges = [
            f"{start}" if start == end else f"{start}-{end}" for start, end in zip(starts, ends, strict=True)
        ]
        return ", ".join([*ranges[:_MAX_RANGES], *(["..."] if len(ranges) > _MAX_RANGES else [])])

    def overlaps(self, other: "Label") -> bool:
        """Whether one would be written over the other."""
        first, second = sorted((self, other), key=lambda label: label.x)
        close = abs(first.y - second.y) < _LINE_HEIGHT
        return close and second.x < first.x + _CHARACTER_WIDTH * len(first.text)

    def joined(self, other: "Label") -> "Label":
        """One label for both, at the place of the better rank."""
        first, second = sorted((self, other), key=lambda label: label.ranks)
        return Label(first.x, first.y, tuple(sorted(first.ranks + second.ranks)))


def rank_labels(places: Mapping[int, Point]) -> dict[int, Label]:
    """Labels for the ranks at these places; those that would overlap are joined.

    The keys of the result are the ranks whose dots have a label beside them.
    """
    apart: list[Label] = []
    for rank, (x, y) in places.items():
        new = Label(x, y, (rank,))
        # A joined label is longer and may overlap a third one.
        while overlapping := next((label for label in apart if label.overlaps(new)), None):
            apart.remove(overlapping)
            new = overlapping.joined(new)
        apart.append(new)
    return {label.ranks[0]: label for label in apart}
