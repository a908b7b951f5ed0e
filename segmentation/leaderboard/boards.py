"""Boards: tables of runs whose scores can be compared. A row is one choice of options, the mean of seeds and folds."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from segmentation.leaderboard.runs import Run
from segmentation.report.protocol import CHECKPOINT_ENTRIES, IGNORED_DATA
from segmentation.report.report import lower_is_better


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points (cost, score) on the Pareto front, by rising cost; higher scores are better.

    A point is not on it if another one is no worse in both values and better in one.
    """
    order = sorted(range(len(points)), key=lambda index: (points[index][0], -points[index][1]))
    front: list[int] = []
    for index in order:
        if not front or points[index][1] > points[front[-1]][1] or points[index] == points[front[-1]]:
            front.append(index)
    return front


_IGNORED_OPTIONS = {"seed", "name", "resume", "dataset.download", "dataset.fold"}
"""Options that do not change the experiment."""


_ASKED_FOR = (
    *(
        "backbone.name",
        "head.name",
        "weights",
        "loss.name",
        "optimizer.name",
        "optimizer.lr",
        "scheduler.name",
    ),
    *("trainer.max_epochs", "data.size", "seed"),
)


def differing_options(runs: Sequence[Run]) -> list[str]:
    """The options in which the runs differ, without those that follow from a `name` option of the same group.

    For example `loss.gamma` is left out beside `loss.name` if each loss has only one gamma.
    """
    keys = sorted({key for run in runs for key in run.options} - _IGNORED_OPTIONS)
    differing = [key for key in keys if len({repr(run.options.get(key)) for run in runs}) > 1]
    return [key for key in differing if not _brought_along(key, differing, runs)]


def _brought_along(key: str, differing: Sequence[str], runs: Sequence[Run]) -> bool:
    choice = f"{key.partition('.')[0]}.name"
    if key == choice or choice not in differing:
        return False
    pairs = {(repr(run.options.get(choice)), repr(run.options.get(key))) for run in runs}
    return len(pairs) == len({chosen for chosen, _ in pairs})


def shown(value: Any) -> str:
    """The value of an option as text."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4g}"
    return json.dumps(value, default=str) if isinstance(value, list | dict) else str(value)


def comparability(run: Run, metric: str) -> dict[str, Any]:
    """How and on which images the run's metric was measured; runs in which this differs cannot be compared."""
    assert run.report is not None
    protocol, data = run.report["protocol"], run.report["data"]
    ignored = CHECKPOINT_ENTRIES if metric.endswith("/loss") else CHECKPOINT_ENTRIES | {"loss"}
    rules = {key: value for key, value in protocol.items() if key not in ignored and value is not None}
    chosen = {
        f"data {key}": value for key, value in data.items() if key not in IGNORED_DATA and value is not None
    }
    return {**rules, "split_sha256": images(run, metric), **chosen}


def images(run: Run, metric: str) -> str | None:
    """The hash of the images on which the metric was measured; for one of several folds, their number."""
    assert run.report is not None
    if folds := run.report["data"].get("folds"):
        return f"{folds} folds"  # each has other images, and all together have the same
    found: str | None = run.report["protocol"]["split_sha256"].get(metric.partition("/")[0])
    return found


def same_images(runs: Sequence[Run], metric: str) -> bool:
    """Whether all runs that have this metric measured it on the same images."""
    return len({images(run, metric) for run in runs if run.score(metric) is not None}) <= 1


@dataclass(frozen=True)
class Spread:
    """The mean over runs, and the sample standard deviation of several."""

    mean: float
    deviation: float | None
    count: int

    @classmethod
    def of(cls, values: Sequence[float | None]) -> "Spread | None":
        """Of the values that are defined; None if there are none."""
        defined = [value for value in values if value is not None and math.isfinite(value)]
        if not defined:
            return None
        deviation = statistics.stdev(defined) if len(defined) > 1 else None
        return cls(statistics.fmean(defined), deviation, len(defined))


@dataclass(frozen=True)
class Row:
    """The runs of one choice of options: the newest of each seed and fold. `repeats` are older and do not count.

    `settings` holds the values of the board's columns, `scores` those of its metrics.
    """

    settings: Mapping[str, str]
    runs: tuple[Run, ...]
    repeats: tuple[Run, ...]
    scores: Mapping[str, Spread | None]
    parameters: int
    latency_ms: float | None = None

    @property
    def label(self) -> str:
        """The row's settings, or the name of its run if the board has no columns."""
        return ", ".join(self.settings.values()) or self.runs[0].name

    def complete(self, metric: str) -> bool:
        """Whether each of its runs has this metric."""
        score = self.scores[metric]
        return score is not None and score.count == len(self.runs)


@dataclass(frozen=True)
class Board:
    """Rows whose scores can be compared, best first; rows in which a run lacks the score come after them.

    `apart` holds the entries in which other boards differ from this one (None: this one does not have the entry).
    `withheld` is a metric that is not shown because runs measured it on different images. `shared` has options that a
    reader asks for and that are the same in all runs, the seed for example.
    """

    metrics: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    protocol: Mapping[str, Any]
    apart: Mapping[str, Any] = field(default_factory=dict)
    withheld: str | None = None
    shared: Mapping[str, str] = field(default_factory=dict)


def boards(runs: Sequence[Run], metric: str) -> list[Board]:
    """A board for each way in which the finished runs were evaluated; the one with the most runs comes first."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        if run.report is not None:
            groups.setdefault(json.dumps(comparability(run, metric), sort_keys=True), []).append(run)
    ways = [json.loads(key) for key in groups]
    differing = {key for way in ways for key in way if any(way[key] != other.get(key) for other in ways)}
    made = [
        _board(group, metric, way, {key: way.get(key) for key in sorted(differing)})
        for way, group in zip(ways, groups.values(), strict=True)
    ]
    return sorted(made, key=lambda board: -sum(len(row.runs) for row in board.rows))


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
        # By exact values: two values may be the same in the four digits shown.
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
        {
            key.removesuffix(".name"): shown(runs[0].options[key])
            for key in _ASKED_FOR
            if len({repr(run.options.get(key)) for run in runs}) == 1 and key in runs[0].options
        },
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
    # Without its config a run repeats no other.
    return repr((run.options.get("seed", run.folder), run.options.get("dataset.fold")))


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
