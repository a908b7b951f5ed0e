"""`leaderboard.html`: one file, no network, in the style of `report.html`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from segmentation.leaderboard.board import Board, Row
from segmentation.leaderboard.chart import picture
from segmentation.leaderboard.run import Run
from segmentation.leaderboard.text import difference, explained, latency, notes, spread
from segmentation.report.cells import facts
from segmentation.report.template import fill

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
        "facts": facts({"protocol": board.protocol}),
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
