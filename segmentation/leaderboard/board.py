"""Runs -> tables of those that compare: a row for each choice of options, over its seeds."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from segmentation.leaderboard.differences import differing_options, shown
from segmentation.leaderboard.runs import Run
from segmentation.report.words import LOWER_IS_BETTER

_LOWER = LOWER_IS_BETTER | {"loss"}

_OWN = {"input", "threshold", "checkpoint"}
"""Entries of a protocol that are part of a model rather than of how it is judged."""

_OF_TRAINING = {"images", "notes", "train"}
"""Entries of a report on its data that say nothing about the images that judge."""


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
    """The runs of one choice of options. `settings` has the board's columns, `scores` its metrics."""

    settings: Mapping[str, str]
    runs: tuple[Run, ...]
    scores: Mapping[str, Spread | None]
    parameters: int
    latency_ms: float | None = None

    @property
    def label(self) -> str:
        """What tells the row from the others."""
        return ", ".join(self.settings.values()) or self.runs[0].name


@dataclass(frozen=True)
class Board:
    """Rows that were judged in one way, the best first; `apart` is what other boards of the page have otherwise."""

    metrics: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    protocol: Mapping[str, Any]
    apart: Mapping[str, Any] = field(default_factory=dict)


def boards(runs: Sequence[Run], metric: str) -> list[Board]:
    """A board for each way in which the finished runs were judged, the one with most runs first."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        if run.report is not None:
            groups.setdefault(json.dumps(judged(run, metric), sort_keys=True), []).append(run)
    ways = [json.loads(key) for key in groups]
    differing = {key for way in ways for key in way if any(way[key] != other.get(key) for other in ways)}
    made = [
        _board(group, metric, way, {key: way[key] for key in sorted(differing) if key in way})
        for way, group in zip(ways, groups.values(), strict=True)
    ]
    return sorted(made, key=lambda board: -sum(len(row.runs) for row in board.rows))


def judged(run: Run, metric: str) -> dict[str, Any]:
    """How and on what the run's metric was taken; runs in which this differs do not compare."""
    assert run.report is not None
    protocol, data = run.report["protocol"], run.report["data"]
    split = metric.partition("/")[0]
    hashes = protocol.get("split_sha256") or {}
    rules = {key: value for key, value in protocol.items() if key not in _OWN and value is not None}
    chosen = {
        f"data {key}": value for key, value in data.items() if key not in _OF_TRAINING and value is not None
    }
    return {**rules, "split_sha256": hashes.get(split), **chosen}


def lower_is_better(metric: str) -> bool:
    """Whether less is more."""
    return metric.rpartition("/")[2] in _LOWER


def _board(runs: Sequence[Run], metric: str, way: Mapping[str, Any], apart: Mapping[str, Any]) -> Board:
    split, _, name = metric.partition("/")
    other = f"{'test' if split == 'val' else 'val'}/{name}"
    metrics = (metric, other) if any(run.score(other) is not None for run in runs) else (metric,)
    keys = differing_options(runs)
    columns = {key: key.removesuffix(".name") for key in keys}
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        # Exactly: values that look alike in four digits may be two choices.
        groups.setdefault(tuple(repr(run.options.get(key)) for key in keys), []).append(run)
    rows = [
        Row(
            {columns[key]: shown(group[0].options.get(key)) for key in keys},
            tuple(group),
            {each: Spread.of([run.score(each) for run in group]) for each in metrics},
            _parameters(group[0]),
        )
        for group in groups.values()
    ]
    return Board(
        metrics, tuple(columns.values()), tuple(sorted(rows, key=lambda row: _order(row, metric))), way, apart
    )


def _order(row: Row, metric: str) -> tuple[bool, float]:
    score = row.scores[metric]
    if score is None:
        return True, 0.0
    return False, score.mean if lower_is_better(metric) else -score.mean


def _parameters(run: Run) -> int:
    assert run.report is not None
    return int(run.report["model"].get("parameters", 0))
