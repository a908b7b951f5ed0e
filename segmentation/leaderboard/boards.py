"""Runs -> tables of those that compare: a row for each choice of options, over its seeds."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from segmentation.leaderboard.runs import Run
from segmentation.report.report import LOWER_IS_BETTER

# MERGED FROM leaderboard/front: Which models no other beats in both score and cost.
# MERGED FROM leaderboard/differences: The options in which runs differ, and only those.
# MERGED FROM leaderboard/judging: How and on what a run's numbers were taken: what decides which of them compare.


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """The places of the points (cost, score) that no other beats, by rising cost; scores: more is better.

    A point is beaten by one that is no worse in both and better in one.
    """
    order = sorted(range(len(points)), key=lambda place: (points[place][0], -points[place][1]))
    front: list[int] = []
    for place in order:
        if not front or points[place][1] > points[front[-1]][1] or points[place] == points[front[-1]]:
            front.append(place)
    return front


_NO_CHOICE = {"seed", "name", "resume", "dataset.download"}
"""Options that make no other experiment: replicates, folders, how the files came there."""


def differing_options(runs: Sequence[Run]) -> list[str]:
    """The options in which the runs differ, without those that another's choice brings along.

    `loss.gamma` is not named beside `loss.name` where each loss has one gamma.
    """
    keys = sorted({key for run in runs for key in run.options} - _NO_CHOICE)
    differing = [key for key in keys if len({repr(run.options.get(key)) for run in runs}) > 1]
    return [key for key in differing if not _brought_along(key, differing, runs)]


def _brought_along(key: str, differing: Sequence[str], runs: Sequence[Run]) -> bool:
    choice = f"{key.partition('.')[0]}.name"
    if key == choice or choice not in differing:
        return False
    pairs = {(repr(run.options.get(choice)), repr(run.options.get(key))) for run in runs}
    return len(pairs) == len({chosen for chosen, _ in pairs})


def shown(value: Any) -> str:
    """An option's value as a table has it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4g}"
    return json.dumps(value) if isinstance(value, list | dict) else str(value)


_OWN = {"input", "threshold", "threshold_source", "checkpoint"}
"""Entries of a protocol that are part of a model rather than of how it is judged."""

_NOT_OF_IMAGES = {"images", "notes", "train", "download", "split", "fractions"}
"""Entries of a report on its data that say nothing about the images that judge, or no more than their hash does."""


def judged(run: Run, metric: str) -> dict[str, Any]:
    """How and on what the run's metric was taken; runs in which this differs do not compare."""
    assert run.report is not None
    protocol, data = run.report["protocol"], run.report["data"]
    rules = {key: value for key, value in protocol.items() if key not in _OWN and value is not None}
    chosen = {
        f"data {key}": value for key, value in data.items() if key not in _NOT_OF_IMAGES and value is not None
    }
    return {**rules, "split_sha256": images(run, metric), **chosen}


def images(run: Run, metric: str) -> str | None:
    """The fingerprint of the images that the metric was taken on."""
    assert run.report is not None
    found: str | None = run.report["protocol"]["split_sha256"].get(metric.partition("/")[0])
    return found


def same_images(runs: Sequence[Run], metric: str) -> bool:
    """Whether all that have this number have it from the same images."""
    return len({images(run, metric) for run in runs if run.score(metric) is not None}) <= 1


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
