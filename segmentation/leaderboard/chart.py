"""The picture of a board: score against cost, the size of a model as area, and the front that none beats."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from segmentation.leaderboard.board import Board, Row, Spread, lower_is_better
from segmentation.leaderboard.front import pareto_front
from segmentation.leaderboard.labels import labels
from segmentation.leaderboard.text import latency, spread

_LEFT, _TOP, _WIDTH, _HEIGHT = 62, 14, 640, 330
"""Where the axes' rectangle lies in a picture of 720 x 400."""

_SMALLEST, _LARGEST = 5.0, 14.0
"""Radii of the models."""

_GAP = 4.0
"""From a dot to its label."""

_STEPS = (1, 2, 5)


@dataclass(frozen=True)
class Axis:
    """From values to places; `ticks` are values at round numbers."""

    low: float
    high: float
    logarithmic: bool

    @classmethod
    def around(cls, values: Sequence[float], *, logarithmic: bool) -> "Axis":
        """All values inside, with some air."""
        low, high = min(values), max(values)
        if logarithmic:
            air = max(1.3, (high / low) ** 0.12)
            return cls(low / air, high * air, True)
        air = 0.14 * (high - low) or 0.05 * abs(high) or 0.05
        return cls(low - air, high + air, False)

    def share(self, value: float) -> float:
        """0 at the low end, 1 at the high end."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round numbers between the ends, at least two where there are any."""
        if self.logarithmic and self.high / self.low > 4:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            values = [step * 10.0**power for power in powers for step in _STEPS]
        else:
            rough = (self.high - self.low) / 4
            power = 10.0 ** math.floor(math.log10(rough))
            width = next(step * power for step in (*_STEPS, 10) if step * power >= rough)
            values = [
                width * place for place in range(math.ceil(self.low / width), int(self.high / width) + 1)
            ]
        return [value for value in values if self.low <= value <= self.high]


def picture(board: Board) -> dict[str, Any] | None:
    """What the page draws; None where fewer than two rows have a score and a cost.

    The cost is the latency where rows have one, else the parameters.
    """
    by_latency = any(row.latency_ms is not None for row in board.rows)
    metric = board.metrics[0]
    shown = [
        (rank, row, cost, score.mean)
        for rank, row in enumerate(board.rows, start=1)
        if (score := row.scores[metric]) is not None
        and (cost := (row.latency_ms if by_latency else row.parameters / 1e6)) is not None
        and cost > 0
    ]
    if len(shown) < 2:
        return None
    sign = -1 if lower_is_better(metric) else 1
    # A mean without its worst seeds would beat the others by their absence.
    complete = [place for place, (_, row, _, _) in enumerate(shown) if row.complete(metric)]
    ahead = pareto_front([(shown[place][2], sign * shown[place][3]) for place in complete])
    front = [complete[place] for place in ahead]
    x = Axis.around([cost for _, _, cost, _ in shown], logarithmic=True)
    y = Axis.around([end for _, row, _, _ in shown for end in _ends(row.scores[metric])], logarithmic=False)
    largest = max(row.parameters for _, row, _, _ in shown) or 1
    dots: list[dict[str, Any]] = [
        {
            "rank": rank,
            "x": _across(x, cost),
            "y": _up(y, score),
            "radius": round(max(_SMALLEST, _LARGEST * math.sqrt(row.parameters / largest)), 1),
            "front": place in front,
            "title": _title(rank, row, metric),
            **_whisker(row, metric, y),
        }
        for place, (rank, row, cost, score) in enumerate(shown)
    ]
    written = labels({dot["rank"]: (dot["x"] + dot["radius"] + _GAP, dot["y"]) for dot in dots})
    for dot in dots:
        dot["label"] = written.get(dot["rank"])
    return {
        "x": "latency of one image, ms" if by_latency else "parameters, millions",
        "y": metric,
        "x_ticks": [{"at": _across(x, tick), "text": f"{tick:g}"} for tick in x.ticks()],
        "y_ticks": [{"at": _up(y, tick), "text": f"{tick:.6g}"} for tick in y.ticks()],
        # Large ones first: they would hide the small ones.
        "dots": sorted(dots, key=lambda dot: -dot["radius"]),
        "front": " ".join(f"{dots[place]['x']},{dots[place]['y']}" for place in front),
        "incomplete": len(complete) < len(shown),
        "ranks": sorted(dots[place]["rank"] for place in front),
    }


def _title(rank: int, row: Row, metric: str) -> str:
    cost = f", {latency(row)} ms" if row.latency_ms is not None else ""
    return f"{rank}. {row.label}: {metric} {spread(row, metric)}, {row.parameters / 1e6:.1f} M{cost}"


def _ends(score: Spread | None) -> tuple[float, float]:
    assert score is not None
    deviation = score.deviation or 0.0
    return score.mean - deviation, score.mean + deviation


def _whisker(row: Row, metric: str, y: Axis) -> dict[str, float]:
    low, high = _ends(row.scores[metric])
    return {} if low == high else {"bottom": _up(y, low), "top": _up(y, high)}


def _across(axis: Axis, value: float) -> float:
    return round(_LEFT + _WIDTH * axis.share(value), 1)


def _up(axis: Axis, value: float) -> float:
    return round(_TOP + _HEIGHT * (1 - axis.share(value)), 1)
