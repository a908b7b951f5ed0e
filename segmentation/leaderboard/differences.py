"""The options in which runs differ, and only those."""

import json
from collections.abc import Sequence
from typing import Any

from segmentation.leaderboard.run import Run

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
