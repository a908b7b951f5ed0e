"""How and on what a run's numbers were taken: what decides which of them compare."""

from collections.abc import Sequence
from typing import Any

from segmentation.leaderboard.run import Run

_OWN = {"input", "threshold", "checkpoint"}
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
