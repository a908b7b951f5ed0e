"""The picture of a board: score against cost, the size of a model as area, and the front that none beats."""

import math
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from segmentation.leaderboard.axis import Axis
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


class _Shown(NamedTuple):
    """A row that the picture shows, with its place on the board."""

    rank: int
    row: Row
    cost: float
    score: Spread


def picture(board: Board) -> dict[str, Any] | None:
    """What the page draws; None where fewer than two rows have a score and a cost.

    The cost is the latency where rows have one, else the parameters.
    """
    by_latency = any(row.latency_ms is not None for row in board.rows)
    metric = board.metrics[0]
    shown = _shown(board, metric, by_latency=by_latency)
    if len(shown) < 2:
        return None
    x = Axis.around([one.cost for one in shown], logarithmic=True)
    y = Axis.around([end for one in shown for end in _ends(one.score)], logarithmic=False)
    front = _front(shown, metric)
    dots = _dots(shown, x, y, metric, {one.rank for one in front})
    return {
        "x": "latency of one image, ms" if by_latency else "parameters, millions",
        "y": metric,
        "x_ticks": [{"at": _across(x, tick), "text": f"{tick:g}"} for tick in x.ticks()],
        "y_ticks": [{"at": _up(y, tick), "text": f"{tick:.6g}"} for tick in y.ticks()],
        # Large ones first: they would hide the small ones.
        "dots": sorted(dots, key=lambda dot: -dot["radius"]),
        "front": " ".join(f"{_across(x, one.cost)},{_up(y, one.score.mean)}" for one in front),
        "incomplete": not all(one.row.complete(metric) for one in shown),
        "ranks": sorted(one.rank for one in front),
    }


def _shown(board: Board, metric: str, *, by_latency: bool) -> list[_Shown]:
    return [
        _Shown(rank, row, cost, score)
        for rank, row in enumerate(board.rows, start=1)
        if (score := row.scores[metric]) is not None
        and (cost := (row.latency_ms if by_latency else row.parameters / 1e6)) is not None
        and cost > 0
    ]


def _front(shown: Sequence[_Shown], metric: str) -> list[_Shown]:
    sign = -1 if lower_is_better(metric) else 1
    # A mean without its worst seeds would beat the others by their absence.
    complete = [one for one in shown if one.row.complete(metric)]
    ahead = pareto_front([(one.cost, sign * one.score.mean) for one in complete])
    return [complete[place] for place in ahead]


def _dots(
    shown: Sequence[_Shown], x: Axis, y: Axis, metric: str, front: Collection[int]
) -> list[dict[str, Any]]:
    largest = max(one.row.parameters for one in shown) or 1
    dots: list[dict[str, Any]] = [
        {
            "rank": one.rank,
            "x": _across(x, one.cost),
            "y": _up(y, one.score.mean),
            "radius": round(max(_SMALLEST, _LARGEST * math.sqrt(one.row.parameters / largest)), 1),
            "front": one.rank in front,
            "title": _title(one.rank, one.row, metric),
            **_whisker(one.score, y),
        }
        for one in shown
    ]
    written = labels({dot["rank"]: (dot["x"] + dot["radius"] + _GAP, dot["y"]) for dot in dots})
    for dot in dots:
        dot["label"] = written.get(dot["rank"])
    return dots


def _title(rank: int, row: Row, metric: str) -> str:
    cost = f", {latency(row)} ms" if row.latency_ms is not None else ""
    return f"{rank}. {row.label}: {metric} {spread(row, metric)}, {row.parameters / 1e6:.1f} M{cost}"


def _ends(score: Spread) -> tuple[float, float]:
    deviation = score.deviation or 0.0
    return score.mean - deviation, score.mean + deviation


def _whisker(score: Spread, y: Axis) -> dict[str, float]:
    low, high = _ends(score)
    return {} if low == high else {"bottom": _up(y, low), "top": _up(y, high)}


def _across(axis: Axis, value: float) -> float:
    return round(_LEFT + _WIDTH * axis.share(value), 1)


def _up(axis: Axis, value: float) -> float:
    return round(_TOP + _HEIGHT * (1 - axis.share(value)), 1)
