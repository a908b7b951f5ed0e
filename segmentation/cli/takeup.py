"""What an earlier command left in a job's folder: a finished run, one to go on with, or nothing."""

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from segmentation.errors import UserError
from segmentation.options import flat

Config = dict[str, Any]

_SHOWN = 3
_THERE_ALREADY = ("checkpoints", "tensorboard")


def take_up(config: Config, folder: Path) -> tuple[Config, float | None]:
    """The config with which the run in `folder` begins or goes on, and its val/miou where it is finished.

    A score that has no number is nan. Raises `UserError` where the folder holds a run of other options.
    """
    earlier = _kept(folder)
    if earlier is None:
        return config, None
    different = differences(earlier, config)
    if different:
        listed = ", ".join(different[:_SHOWN]) + (", ..." if len(different) > _SHOWN else "")
        raise UserError(f"{folder} holds a run of other options ({listed}): give another name=NAME.")
    if (value := _finished(folder)) is not None:
        return config, value
    if (folder / "checkpoints" / "last.ckpt").is_file():
        return {**config, "resume": str(folder)}, None
    # It was cut off before an epoch was whole, so there is nothing that could be lost.
    for part in _THERE_ALREADY:
        shutil.rmtree(folder / part, ignore_errors=True)
    return config, None


def differences(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The options that differ, as `trainer.max_epochs 2, now 3`; whether a run was resumed is none of its options."""
    before, after = (flat({**config, "resume": None}) for config in (earlier, now))
    return [
        f"{key} {before.get(key)}, now {after.get(key)}"
        for key in sorted(before.keys() | after.keys())
        if key not in before or key not in after or before[key] != after[key]
    ]


def _kept(folder: Path) -> Config | None:
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text())
    except (OSError, yaml.YAMLError):
        return None
    return config if isinstance(config, dict) else None


def _finished(folder: Path) -> float | None:
    try:
        value = json.loads((folder / "report.json").read_text())["metrics"]["val/miou"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # a report that was being written when its process died is none
    return math.nan if value is None else float(value)
