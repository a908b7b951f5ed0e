"""The leaderboard as Markdown, CSV and `leaderboard.html`, which is one file in the style of `report.html`."""

import csv
import io
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from segmentation.leaderboard.boards import Board, Row, Spread, pareto_front
from segmentation.leaderboard.runs import Run
from segmentation.report.html import fact_rows, render_page
from segmentation.report.report import cell, fact, facts, grid, lower_is_better, number
from segmentation.report.svg import WIDE, Axis, Chart, Dot, Line, draw


def markdown(boards: Sequence[Board], failed: Sequence[Run], timing: str) -> str:
    """A table for each board with its protocol, then the unfinished runs with their reasons."""
    lines = ["# Leaderboard", ""]
    for place, board in enumerate(boards, start=1):
        if len(boards) > 1:
            lines += [f"## Board {place}: {cell(difference(board))}", ""]
        lines += [
            *_table(board),
            "",
            cell(" ".join(explanations(board, timing))),
            "",
            "How these numbers were measured:",
            "",
        ]
        lines += [*facts(board.protocol), ""]
    if failed:
        lines += ["## Not finished", "", *(f"- {cell(run.name)}: {cell(run.reason)}" for run in failed), ""]
    return "\n".join(lines)


def comma_separated(boards: Sequence[Board]) -> str:
    """All rows of all boards in full precision; the cell of a missing value is empty."""
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
    """The entries of protocol and data in which the board differs from the others."""
    return ", ".join(
        f"without {key}" if value is None else f"{key} {fact(value)}" for key, value in board.apart.items()
    )


def spread(row: Row, metric: str) -> str:
    """The mean, with the deviation over several runs, and the number of runs if some lack the score."""
    value = row.scores[metric]
    if value is None:
        return "-"
    mean = number(value.mean) if value.deviation is None else f"{value.mean:.4f} ± {value.deviation:.4f}"
    return mean if row.complete(metric) else f"{mean} ({value.count} of {len(row.runs)})"


def has_repeats(board: Board) -> bool:
    """Whether a row has more than one run."""
    return any(len(row.runs) > 1 for row in board.rows)


def latency(row: Row) -> str:
    """The latency in ms, or a dash."""
    return "-" if row.latency_ms is None else f"{row.latency_ms:.1f}"


def notes(row: Row) -> str:
    """The notes of the row's runs."""
    return "; ".join(dict.fromkeys(run.note for run in row.runs if run.note))


def explanations(board: Board, timing: str) -> list[str]:
    """Sentences on how to read the board."""
    sentences = [f"Ranked by {board.metrics[0]}; the columns are the options in which the runs differ."]
    if board.shared:
        options = ", ".join(f"{key} {value}" for key, value in board.shared.items())
        sentences.append(f"The same in all of them: {options}.")
    if has_repeats(board):
        sentences.append(
            "± is the sample standard deviation over the runs of a row, which differ only in their seed or fold."
        )
    if any(row.scores[metric] and not row.complete(metric) for row in board.rows for metric in board.metrics):
        sentences.append(
            "(1 of 2): the other runs have no such number, so the row comes after complete ones."
        )
    if board.withheld:
        sentences.append(
            f"{board.withheld} is not shown because the runs measured it on different images;"
            f" metric={board.withheld} ranks by it."
        )
    if repeats := [run.name for row in board.rows for run in row.repeats]:
        sentences.append(f"Left out because a newer run has the same options and seed: {', '.join(repeats)}.")
    if any(row.latency_ms is not None for row in board.rows):
        sentences.append(f"Latency: {timing}.")
    return sentences


def _table(board: Board) -> list[str]:
    timed = any(row.latency_ms is not None for row in board.rows)
    noted = any(map(notes, board.rows))
    heads = [
        "rank",
        *map(cell, board.columns),
        *map(cell, board.metrics),
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


_SMALLEST, _LARGEST = 5.0, 14.0
"""Radii of the dots."""


class _Point(NamedTuple):
    """A row that the chart shows, with its rank on the board."""

    rank: int
    row: Row
    cost: float
    score: Spread


def score_chart(board: Board) -> tuple[Chart, list[int]] | None:
    """The chart of score against cost and the ranks on its Pareto front; None with fewer than two points.

    The cost is the latency where rows have one, else the number of parameters.
    """
    by_latency = any(row.latency_ms is not None for row in board.rows)
    metric = board.metrics[0]
    points = _points(board, metric, by_latency=by_latency)
    if len(points) < 2:
        return None
    front = _front(points, metric)
    ranks = sorted(point.rank for point in front)
    caption = (
        "Numbers are ranks, areas are parameters, error bars are standard deviations. The line is the Pareto front:"
        f" no other model here is better without costing more. The table marks its ranks: {', '.join(map(str, ranks))}."
    )
    if not all(point.row.complete(metric) for point in points):
        caption += " Rows in which some runs lack the score cannot be on it."
    chart = Chart(
        "score",
        "Score against cost",
        caption,
        Axis.around(
            "latency of one image, ms" if by_latency else "parameters, millions",
            [point.cost for point in points],
            logarithmic=True,
        ),
        Axis.around(metric, [end for point in points for end in _ends(point.score)]),
        lines=[Line([(point.cost, point.score.mean) for point in front], "var(--accent)", dashed=True)],
        dots=_dots(points, metric, ranks),
        frame=WIDE,
    )
    return chart, ranks


def _points(board: Board, metric: str, *, by_latency: bool) -> list[_Point]:
    return [
        _Point(rank, row, cost, score)
        for rank, row in enumerate(board.rows, start=1)
        if (score := row.scores[metric]) is not None
        and (cost := (row.latency_ms if by_latency else row.parameters / 1e6)) is not None
        and cost > 0
    ]


def _front(points: Sequence[_Point], metric: str) -> list[_Point]:
    sign = -1 if lower_is_better(metric) else 1
    # Without this, a mean that lacks its worst seeds could beat the others.
    complete = [point for point in points if point.row.complete(metric)]
    return [
        complete[index]
        for index in pareto_front([(point.cost, sign * point.score.mean) for point in complete])
    ]


def _dots(points: Sequence[_Point], metric: str, front: Collection[int]) -> list[Dot]:
    largest = max(point.row.parameters for point in points) or 1
    dots = []
    for rank, row, cost, score in points:
        low, high = _ends(score) if score.deviation else (None, None)
        radius = round(max(_SMALLEST, _LARGEST * math.sqrt(row.parameters / largest)), 1)
        title = _title(rank, row, metric)
        dots.append(Dot(cost, score.mean, title, radius, rank, rank in front, low, high))
    return dots


def _title(rank: int, row: Row, metric: str) -> str:
    cost = f", {latency(row)} ms" if row.latency_ms is not None else ""
    return f"{rank}. {row.label}: {metric} {spread(row, metric)}, {row.parameters / 1e6:.1f} M{cost}"


def _ends(score: Spread) -> tuple[float, float]:
    deviation = score.deviation or 0.0
    return score.mean - deviation, score.mean + deviation


_TEMPLATES = Path(__file__).parent / "templates"


def render(boards: Sequence[Board], failed: Sequence[Run], timing: str, title: str) -> str:
    """HTML of the page with all boards."""
    finished = sum(len(row.runs) + len(row.repeats) for board in boards for row in board.rows)
    return render_page(
        "leaderboard",
        script="leaderboard.js",
        folder=_TEMPLATES,
        title=title,
        chips=[f"{finished} finished runs", *([f"{len(failed)} not finished"] if failed else [])],
        boards=[_board(board, timing) for board in boards],
        failed=failed,
    )


def _board(board: Board, timing: str) -> dict[str, Any]:
    timed = any(row.latency_ms is not None for row in board.rows)
    noted = any(map(notes, board.rows))
    chart, front = score_chart(board) or (None, [])
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
        "explained": explanations(board, timing),
        "chart": draw(chart) if chart else None,
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
