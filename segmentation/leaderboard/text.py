"""Boards as Markdown and as CSV."""

import csv
import io
from collections.abc import Sequence

from segmentation.leaderboard.board import Board, Row, Spread
from segmentation.leaderboard.run import Run
from segmentation.report.text import cell, fact, facts, grid, number


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
