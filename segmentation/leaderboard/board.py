"""Runs -> tables of those that compare: a row for each choice of options, over its seeds."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from segmentation.leaderboard.differences import differing_options, shown
from segmentation.leaderboard.judging import images, judged, same_images
from segmentation.leaderboard.run import Run
from segmentation.report.words import LOWER_IS_BETTER

_LOWER = LOWER_IS_BETTER | {"loss"}


@dataclass(frozen=True)
class Spread:
    """The mean over runs, and their sample standard deviation where there are several."""

    mean: float
    deviation: float | None
    count: int

    @classmethod
    def of(cls, values: Sequence[float | None]) -> "Spread | None":
        """Over the values that exist; None without any."""
        there = [value for value in values if value is not None and math.isfinite(value)]
        if not there:
            return None
        deviation = statistics.stdev(there) if len(there) > 1 else None
        return cls(statistics.fmean(there), deviation, len(there))


@dataclass(frozen=True)
class Row:
    """The runs of one choice of options, of each seed the newest. `repeats` are the older ones, which do not count.

    `settings` has the board's columns, `scores` its metrics.
    """

    settings: Mapping[str, str]
    runs: tuple[Run, ...]
    repeats: tuple[Run, ...]
    scores: Mapping[str, Spread | None]
    parameters: int
    latency_ms: float | None = None

    @property
    def label(self) -> str:
        """What tells the row from the others."""
        return ", ".join(self.settings.values()) or self.runs[0].name

    def complete(self, metric: str) -> bool:
        """Whether each of its runs has this number."""
        score = self.scores[metric]
        return score is not None and score.count == len(self.runs)


@dataclass(frozen=True)
class Board:
    """Rows that were judged in one way, the best first; those that lack the number of some seed come after them.

    `apart` is what other boards of the page have otherwise, None where this one does not have it. `withheld` is a
    metric that is there, but from other images in some runs than in others.
    """

    metrics: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    protocol: Mapping[str, Any]
    apart: Mapping[str, Any] = field(default_factory=dict)
    withheld: str | None = None


def boards(runs: Sequence[Run], metric: str) -> list[Board]:
    """A board for each way in which the finished runs were judged, the one with most runs first."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        if run.report is not None:
            groups.setdefault(json.dumps(judged(run, metric), sort_keys=True), []).append(run)
    ways = [json.loads(key) for key in groups]
    differing = {key for way in ways for key in way if any(way[key] != other.get(key) for other in ways)}
    made = [
        _board(group, metric, way, {key: way.get(key) for key in sorted(differing)})
        for way, group in zip(ways, groups.values(), strict=True)
    ]
    return sorted(made, key=lambda board: -sum(len(row.runs) for row in board.rows))


def lower_is_better(metric: str) -> bool:
    """Whether less is more."""
    return metric.rpartition("/")[2] in _LOWER


def _board(runs: Sequence[Run], metric: str, way: Mapping[str, Any], apart: Mapping[str, Any]) -> Board:
    split, _, name = metric.partition("/")
    other = f"{'test' if split == 'val' else 'val'}/{name}"
    there = any(run.score(other) is not None for run in runs)
    compares = same_images(runs, other)
    metrics = (metric, other) if there and compares else (metric,)
    keys = differing_options(runs)
    columns = {key: key.removesuffix(".name") for key in keys}
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        # Exactly: values that look alike in four digits may be two choices.
        groups.setdefault(tuple(repr(run.options.get(key)) for key in keys), []).append(run)
    rows = [
        _row(group, metrics, {columns[key]: shown(group[0].options.get(key)) for key in keys})
        for group in groups.values()
    ]
    return Board(
        metrics,
        tuple(columns.values()),
        tuple(sorted(rows, key=lambda row: _order(row, metric))),
        {**way, "split_sha256": {each.partition("/")[0]: _hash(runs, each) for each in metrics}},
        apart,
        other if there and not compares else None,
    )


def _row(group: Sequence[Run], metrics: Sequence[str], settings: Mapping[str, str]) -> Row:
    newest: dict[str, Run] = {}
    for run in sorted(group, key=lambda run: (run.ended, run.name)):
        newest[_replicate(run)] = run
    counted = tuple(run for run in group if newest[_replicate(run)] is run)
    return Row(
        settings,
        counted,
        tuple(run for run in group if newest[_replicate(run)] is not run),
        {metric: Spread.of([run.score(metric) for run in counted]) for metric in metrics},
        _parameters(counted[0]),
    )


def _replicate(run: Run) -> str:
    # Without its config nobody knows what a run repeats.
    return repr(run.options.get("seed", run.folder))


def _order(row: Row, metric: str) -> tuple[bool, bool, float]:
    score = row.scores[metric]
    if score is None:
        return True, True, 0.0
    return False, not row.complete(metric), score.mean if lower_is_better(metric) else -score.mean


def _hash(runs: Sequence[Run], metric: str) -> str | None:
    return next((images(run, metric) for run in runs if run.score(metric) is not None), None)


def _parameters(run: Run) -> int:
    assert run.report is not None
    return int(run.report["model"].get("parameters", 0))
