"""What an earlier command left in a job's folder: a finished run, one to go on with, or nothing."""

import contextlib
import json
import logging
import math
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from segmentation.errors import UserError
from segmentation.options import flat

log = logging.getLogger(__name__)

Config = dict[str, Any]

_SHOWN = 3
_SILENCE_S = 2.0
_THERE_ALREADY = ("checkpoints", "tensorboard")


def take_up(config: Config, folder: Path) -> tuple[Config, float | None]:
    """The config with which the run in `folder` begins or goes on, and its val/miou where it is finished.

    A score that has no number is nan. A finished run that was prolonged by hand is finished. Raises `UserError`
    where the folder holds a run of other options, or one whose prolonging was cut off.
    """
    latest = folder / "config.yaml"
    if not latest.exists() or (earlier := _kept(folder / ".hydra" / "config.yaml") or _kept(latest)) is None:
        return config, None
    if different := differences(earlier, config):
        raise UserError(
            f"{folder} holds a run of other options ({_listed(different)}): give another name=NAME."
        )
    if (value := _finished(folder)) is not None:
        return config, value
    if changed := differences(_kept(latest) or earlier, config):
        raise UserError(
            f"{folder} was resumed with other options ({_listed(changed)}) and then cut off: give that command"
            " again first."
        )
    if (folder / "checkpoints" / "last.ckpt").is_file():
        return {**config, "resume": str(folder)}, None
    # It was cut off before an epoch was whole, so there is nothing that could be lost.
    for part in _THERE_ALREADY:
        shutil.rmtree(folder / part, ignore_errors=True)
    return config, None


def note(folder: Path, composed: DictConfig) -> None:
    """Writes down what the run in `folder` begins with, as Hydra does for a single run.

    Hydra itself would do so for every job of a sweep, also over a run of other options, which is then refused.
    """
    place = folder / ".hydra"
    place.mkdir(exist_ok=True)
    OmegaConf.save(composed, place / "config.yaml")
    OmegaConf.save(HydraConfig.instance().cfg, place / "hydra.yaml")
    OmegaConf.save(HydraConfig.get().overrides.task, place / "overrides.yaml")


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Inside, the folder is this job's alone.

    Two jobs of one search may ask for the same values, and a job of a killed command may still be ending.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=_SILENCE_S)
    except Timeout:
        log.info("waiting for another process, which is writing %s", folder)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def differences(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The options that differ, as `trainer.max_epochs 2, now 3`; whether a run was resumed is none of its options."""
    before, after = (flat({**config, "resume": None}) for config in (earlier, now))
    return [
        f"{key} {before.get(key)}, now {after.get(key)}"
        for key in sorted(before.keys() | after.keys())
        if key not in before or key not in after or before[key] != after[key]
    ]


def _listed(different: list[str]) -> str:
    return ", ".join(different[:_SHOWN]) + (", ..." if len(different) > _SHOWN else "")


def _kept(path: Path) -> Config | None:
    """A config as it was written down; None where it cannot be read, or not to its end."""
    try:
        text = path.read_text()
        config = OmegaConf.to_container(OmegaConf.create(text), resolve=True)
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException):
        return None
    if not isinstance(config, dict) or not config or not text.endswith("\n"):
        return None
    return {str(key): value for key, value in config.items()}


def _finished(folder: Path) -> float | None:
    try:
        value = json.loads((folder / "report.json").read_text())["metrics"]["val/miou"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # a report that was being written when its process died is none
    return math.nan if value is None else float(value)
