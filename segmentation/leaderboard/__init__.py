"""A leaderboard of all runs below a folder; `leaderboard.py` calls `leaderboard`."""

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

from segmentation.config import LeaderboardSettings, read_leaderboard_settings
from segmentation.errors import UserError, closest
from segmentation.leaderboard.boards import Board, boards
from segmentation.leaderboard.page import comma_separated, markdown, render
from segmentation.leaderboard.runs import Run, read_runs
from segmentation.writing import refuse_links, write_text

__all__ = ["leaderboard"]

log = logging.getLogger(__name__)


def leaderboard(config: Mapping[str, Any]) -> float:
    """Write `leaderboard.html`, `.md` and `.csv`, log the table, and return the best score (nan without runs).

    Raises `UserError` for wrong options, folders without runs, a metric that no run has, and benchmarks of other
    models.
    """
    settings = read_leaderboard_settings(config)
    runs = read_runs(settings.folders)
    failed = [run for run in runs if run.report is None]
    _check_metric(settings.metric, runs)
    made, timing = _with_latencies(boards(runs, settings.metric), settings)
    text = markdown(made, failed, timing)
    page, table, cells = (settings.target / f"leaderboard.{ending}" for ending in ("html", "md", "csv"))
    refuse_links([page, table, cells])
    settings.target.mkdir(parents=True, exist_ok=True)
    write_text(table, text)
    write_text(cells, comma_separated(made))
    write_text(page, render(made, failed, timing, settings.folders[0].resolve().name))
    log.info("%s\nIn %s: leaderboard.html, leaderboard.md, leaderboard.csv", text, settings.target)
    best = made[0].rows[0].scores[settings.metric] if made else None
    return best.mean if best else float("nan")


def _check_metric(metric: str, runs: list[Run]) -> None:
    finished = [run for run in runs if run.report is not None]
    if not finished or any(run.score(metric) is not None for run in finished):
        return
    names = {name for run in finished if run.report for name in run.report["metrics"]}
    raise UserError(f"metric={metric} is in no report of these runs.{closest(metric, names)}")


def _with_latencies(made: list[Board], settings: LeaderboardSettings) -> tuple[list[Board], str]:
    if settings.benchmarks is None and settings.latency == 0:
        return made, ""
    # Imported here because importing torch takes seconds, and a table without latencies does not need it.
    from pathlib import Path

    from segmentation.environment import choose_device, device_name
    from segmentation.leaderboard.latency import add_latencies, benchmarked, timed

    if settings.benchmarks is not None:
        measure, conditions = benchmarked(Path(settings.benchmarks))
        made = add_latencies(made, measure)
        _check_latencies(made, settings.benchmarks)
        return made, f"one image through the model, as benchmark.py measured it on {conditions}"
    device = device_name(choose_device("auto"))
    log.info("timing %d models, for %g s each", sum(len(board.rows) for board in made), settings.latency)
    made = add_latencies(made, partial(timed, seconds=settings.latency))
    return made, f"one image of the training size through the model in float32, measured on {device}"


def _check_latencies(made: list[Board], benchmarks: str) -> None:
    rows = [row for board in made for row in board.rows]
    if not rows or any(row.latency_ms is not None for row in rows):
        return
    run = rows[0].runs[0]
    model = (run.report or {})["model"]
    raise UserError(
        f"benchmarks={benchmarks} holds none of these models at their size. Of the first: backbone"
        f" {model['backbone'].get('name')}, head {model['head'].get('name')}, output_stride="
        f"{model.get('output_stride')} outputs={model.get('outputs')} data.channels={model.get('channels')}"
        f" data.size={run.size}."
    )
