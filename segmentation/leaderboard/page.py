"""`leaderboard.html`: one file, no network, in the style of `report.html`."""

import csv
import io
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from segmentation.leaderboard.boards import Board, Row, Spread, lower_is_better, pareto_front
from segmentation.leaderboard.runs import Run
from segmentation.report.html import fact_rows, fill
from segmentation.report.report import cell, fact, facts, grid, number

# MERGED FROM leaderboard/axis: An axis of a picture: where a value lies, and which values are written beside it.
# MERGED FROM leaderboard/labels: Ranks beside the dots of a picture, none written over another.
# MERGED FROM leaderboard/text: Boards as Markdown and as CSV.
# MERGED FROM leaderboard/chart: The picture of a board: score against cost, the size of a model as area, and the fr

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


_DIGIT, _LINE = 8.0, 13.0
"""What a letter takes of the picture, generously."""

_FEW = 3
"""More ranges at one place are not spelt out: the table has them."""


@dataclass(frozen=True)
class Label:
    """Ranks at one place: where the first of them begins, and all of them, the best first."""

    x: float
    y: float
    ranks: tuple[int, ...]

    @property
    def text(self) -> str:
        """As `1-3, 5`: equal models follow one another, and a short label meets fewer others."""
        starts = [rank for rank in self.ranks if rank - 1 not in self.ranks]
        ends = [rank for rank in self.ranks if rank + 1 not in self.ranks]
        ranges = [
            f"{start}" if start == end else f"{start}-{end}" for start, end in zip(starts, ends, strict=True)
        ]
        return ", ".join([*ranges[:_FEW], *(["..."] if len(ranges) > _FEW else [])])

    def meets(self, other: "Label") -> bool:
        """Whether one would be written over the other."""
        first, second = sorted((self, other), key=lambda label: label.x)
        return abs(first.y - second.y) < _LINE and second.x < first.x + _DIGIT * len(first.text)

    def joined(self, other: "Label") -> "Label":
        """One for both, at the place of the better."""
        first, second = sorted((self, other), key=lambda label: label.ranks)
        return Label(first.x, first.y, tuple(sorted(first.ranks + second.ranks)))


def labels(places: Mapping[int, tuple[float, float]]) -> dict[int, Label]:
    """From the place of each rank to the labels that are written, by the rank beside whose dot they stand."""
    apart: list[Label] = []
    for rank, (x, y) in places.items():
        new = Label(x, y, (rank,))
        # One that has taken in another is longer, and may meet a third.
        while met := next((label for label in apart if label.meets(new)), None):
            apart.remove(met)
            new = met.joined(new)
        apart.append(new)
    return {label.ranks[0]: label for label in apart}


def markdown(boards: Sequence[Board], failed: Sequence[Run], timing: str) -> str:
    """A table for each board, below it how its numbers were taken; at the end what did not finish, and why."""
    lines = ["# Leaderboard", ""]
    for place, board in enumerate(boards, start=1):
        if len(boards) > 1:
            lines += [f"## Board {place}: {cell(difference(board))}", ""]
        lines += [
            *_table(board),
            "",
            cell(" ".join(explained(board, timing))),
            "",
            "How the numbers were taken:",
            "",
        ]
        lines += [*facts(board.protocol), ""]
    if failed:
        lines += ["## Not finished", "", *(f"- {cell(run.name)}: {cell(run.reason)}" for run in failed), ""]
    return "\n".join(lines)


def comma_separated(boards: Sequence[Board]) -> str:
    """All rows of all boards in full precision; a cell of what does not exist is empty."""
    metrics = list(dict.fromkeys(metric for board in boards for metric in board.metrics))
    columns = list(dict.fromkeys(column for board in boards for column in board.columns))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    scores = [f"{metric}{part}" for metric in metrics for part in ("", " deviation", " runs")]
    writer.writerow(["board", "rank", *columns, "runs", *scores, "parameters", "latency_ms", "folders"])
    for place, board in enumerate(boards, start=1):
        for rank, row in enumerate(board.rows, start=1):
            taken = [value for metric in metrics for value in _parts(row.scores.get(metric))]
            settings = [row.settings.get(column, "") for column in columns]
            folders = " ".join(str(run.folder) for run in row.runs)
            latency = "" if row.latency_ms is None else row.latency_ms
            writer.writerow([place, rank, *settings, len(row.runs), *taken, row.parameters, latency, folders])
    return text.getvalue()


def difference(board: Board) -> str:
    """What sets the board apart from the others of its page."""
    return ", ".join(
        f"without {key}" if value is None else f"{key} {fact(value)}" for key, value in board.apart.items()
    )


def spread(row: Row, metric: str) -> str:
    """The mean, with the deviation where there are several runs, and their number where some lack it."""
    value = row.scores[metric]
    if value is None:
        return "-"
    mean = number(value.mean) if value.deviation is None else f"{value.mean:.4f} ± {value.deviation:.4f}"
    return mean if row.complete(metric) else f"{mean} ({value.count} of {len(row.runs)})"


def several(board: Board) -> bool:
    """Whether any row has more than one run."""
    return any(len(row.runs) > 1 for row in board.rows)


def latency(row: Row) -> str:
    """In ms, or a dash."""
    return "-" if row.latency_ms is None else f"{row.latency_ms:.1f}"


def notes(row: Row) -> str:
    """What should stand beside the row's numbers."""
    return "; ".join(dict.fromkeys(run.note for run in row.runs if run.note))


def explained(board: Board, timing: str) -> list[str]:
    """How to read the board."""
    said = [f"Ranked by {board.metrics[0]}; columns are what the runs differ in."]
    if several(board):
        said.append(
            "± is the sample standard deviation over the runs of a row, which differ in their seed at most."
        )
    if any(row.scores[metric] and not row.complete(metric) for row in board.rows for metric in board.metrics):
        said.append(
            "(1 of 2): the other runs have no such number, so the row comes after those that have all."
        )
    if board.withheld:
        said.append(
            f"{board.withheld} is not shown, for it was not taken on the same images in all runs:"
            f" metric={board.withheld} ranks by it."
        )
    if repeats := [run.name for row in board.rows for run in row.repeats]:
        said.append(f"Left out, for a newer run has the same options and seed: {', '.join(repeats)}.")
    if any(row.latency_ms is not None for row in board.rows):
        said.append(f"Latency: {timing}.")
    return said


def _table(board: Board) -> list[str]:
    timed = any(row.latency_ms is not None for row in board.rows)
    noted = any(map(notes, board.rows))
    heads = [
        "rank",
        *board.columns,
        *board.metrics,
        "runs",
        "parameters M",
        *(["latency ms"] if timed else []),
    ]
    rows = [
        [
            *(str(rank), *(cell(row.settings[name]) for name in board.columns)),
            *(spread(row, metric) for metric in board.metrics),
            *(str(len(row.runs)), f"{row.parameters / 1e6:.1f}"),
            *([latency(row)] if timed else []),
            *([cell(notes(row))] if noted else []),
        ]
        for rank, row in enumerate(board.rows, start=1)
    ]
    return grid([*heads, *(["note"] if noted else [])], rows)


def _parts(value: Spread | None) -> list[float | int | str]:
    if value is None:
        return ["", "", 0]
    return [value.mean, "" if value.deviation is None else value.deviation, value.count]


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


_TEMPLATES = Path(__file__).parent / "templates"


def render(boards: Sequence[Board], failed: Sequence[Run], timing: str, title: str) -> str:
    """The page of all boards."""
    finished = sum(len(row.runs) + len(row.repeats) for board in boards for row in board.rows)
    return fill(
        "leaderboard",
        script="leaderboard.js",
        folder=_TEMPLATES,
        title=title,
        chips=[f"{finished} finished runs", *([f"{len(failed)} not finished"] if failed else [])],
        boards=[_board(board, timing) for board in boards],
        failed=failed,
        own_style=Markup((_TEMPLATES / "leaderboard.css").read_text(encoding="utf-8")),
    )


def _board(board: Board, timing: str) -> dict[str, Any]:
    timed = any(row.latency_ms is not None for row in board.rows)
    noted = any(map(notes, board.rows))
    chart = picture(board)
    front = set(chart["ranks"]) if chart else set()
    numbers = [*board.metrics, "runs", "parameters M", *(["latency ms"] if timed else [])]
    rows = [
        {
            "rank": rank,
            "front": rank in front,
            "settings": [row.settings[name] for name in board.columns],
            "numbers": _numbers(board, row, timed=timed),
            "note": notes(row),
            "runs": [_run(run, board) for run in row.runs],
        }
        for rank, row in enumerate(board.rows, start=1)
    ]
    return {
        "difference": difference(board),
        "columns": board.columns,
        "numbers": numbers,
        "noted": noted,
        "metrics": board.metrics,
        "rows": rows,
        "explained": explained(board, timing),
        "chart": chart,
        "facts": fact_rows({"protocol": board.protocol}),
    }


def _numbers(board: Board, row: Row, *, timed: bool) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = [
        {"text": spread(row, metric), "value": "" if score is None else repr(score.mean)}
        for metric, score in row.scores.items()
    ]
    cells += [
        {"text": str(len(row.runs)), "value": len(row.runs)},
        {"text": f"{row.parameters / 1e6:.1f}", "value": row.parameters},
    ]
    if timed:
        cells.append({"text": latency(row), "value": "" if row.latency_ms is None else repr(row.latency_ms)})
    return cells


def _run(run: Run, board: Board) -> dict[str, Any]:
    scores = [run.score(metric) for metric in board.metrics]
    return {
        "name": run.name,
        "seed": run.options.get("seed", "-"),
        "scores": ["-" if score is None else f"{score:.4f}" for score in scores],
    }
