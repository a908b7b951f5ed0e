"""`resume=RUN` and `resume=auto`: the run's own overrides, then those typed now, in the run's own folder."""

import contextlib
import json
import logging
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from segmentation.cli.command import Command, own_options
from segmentation.cli.overrides import quoted
from segmentation.config import flat
from segmentation.errors import UserError

# MERGED FROM cli/takeup: What an earlier command left in a job's folder: a finished run, one to go on with, or noth
# MERGED FROM cli/latest: Which run `resume=auto` goes on with.

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


_FOR_THIS_TIME = ("trainer.", "compile ")
"""Options that may change when a run goes on: how long, on how many devices, by kernels of its own."""


def latest_unfinished(arguments: Sequence[str]) -> Path | None:
    """The run of these options that last wrote a checkpoint, has no report, and is nobody's work now; or None.

    Looked for where a new run would be put. Raises Hydra's exceptions for what cannot be composed.
    """
    command = Command.of(arguments, "train")
    config = command.compose(command.overrides)
    place = Path(config.hydra.run.dir)
    options = own_options(config)
    settled = any(override.startswith("hydra.run.dir=") for override in command.overrides)
    found = [
        folder
        for folder in ([place] if settled else _folders(place.parent))
        if (folder / "checkpoints" / "last.ckpt").is_file()
        and not (folder / "report.json").exists()
        and _same(folder, options)
        and _is_free(folder)
    ]
    return max(found, key=lambda folder: (folder / "checkpoints" / "last.ckpt").stat().st_mtime, default=None)


def _folders(place: Path) -> Iterable[Path]:
    return place.iterdir() if place.is_dir() else ()


def _same(folder: Path, options: dict[str, object]) -> bool:
    try:
        earlier = yaml.safe_load((folder / "config.yaml").read_text())
    except (OSError, yaml.YAMLError):
        return False
    if not isinstance(earlier, dict):
        return False
    return all(difference.startswith(_FOR_THIS_TIME) for difference in differences(earlier, options))


def _is_free(folder: Path) -> bool:
    from filelock import FileLock, Timeout

    try:
        with FileLock(folder / ".lock", timeout=0):
            return True
    except Timeout:
        return False


_KEY = "resume="


def resumed(arguments: Sequence[str]) -> list[str]:
    """Command line arguments -> the same, with those of the run that `resume=RUN` names before them.

    What is typed beside it holds for this time only. `resume=auto` names the latest run of these options that is
    not finished, or none. Raises `UserError` where RUN is no run folder or has no checkpoint to go on from, and
    where a new run would be written over an old one.
    """
    command = Command.of(arguments, "train")
    runs = [each.lstrip("+").removeprefix(_KEY) for each in command.overrides if _is_resume(each)]
    typed = [override for override in command.overrides if not _is_resume(override)]
    run = runs[-1] if runs else ""
    if run == "auto":
        latest = latest_unfinished([*command.flags, *typed])
        run = "" if latest is None else str(latest)
    if run in ("", "null"):
        _refuse_used_folder(typed)
        return [*command.flags, *typed]
    folder = Path(run.strip("'\"")).expanduser().resolve()
    kept = [override for override in _earlier(folder, run) if not _is_resume(override)]
    # The run keeps its own .hydra: a mistyped resume must not change what the run is.
    there = [
        f"{_KEY}{quoted(str(folder))}",
        f"hydra.run.dir={quoted(str(folder))}",
        "hydra.output_subdir=null",
    ]
    # Hydra refuses a flag between two overrides.
    return [*command.flags, *kept, *typed, *there]


def _earlier(folder: Path, run: str) -> list[str]:
    """The overrides that the run in `folder` began with; `run` is how it was typed."""
    overrides = folder / ".hydra" / "overrides.yaml"
    if not overrides.is_file():
        raise UserError(
            f"resume={run} is no run folder: it has no .hydra/overrides.yaml. Give outputs/NAME/DATE_TIME."
        )
    if not (folder / "checkpoints" / "last.ckpt").is_file():
        raise UserError(f"resume={run} has no checkpoints/last.ckpt: no epoch was finished. Start it anew.")
    try:
        earlier = yaml.safe_load(overrides.read_text())
    except yaml.YAMLError:
        earlier = None
    if not isinstance(earlier, list) or not all(isinstance(override, str) for override in earlier):
        raise UserError(f"{overrides} is damaged: it should be a list of overrides.")
    for override in earlier:
        _refuse_foreign(override, overrides)
    return earlier


def _is_resume(argument: str) -> bool:
    return argument.lstrip("+").startswith(_KEY)


def _refuse_foreign(override: str, source: Path) -> None:
    # Hydra's own settings name classes and functions that it calls, and a flag can bring a whole config folder:
    # neither is ever among the overrides of a run, so here it is somebody's attempt to run code.
    if override.startswith("-") or "hydra" in override.partition("=")[0].lower():
        raise UserError(f"{source} holds '{override[:60]}', which is no option of a run: it was not resumed.")


def _refuse_used_folder(arguments: Sequence[str]) -> None:
    for argument in arguments:
        key, _, value = argument.partition("=")
        folder = Path(value.strip("'\""))
        if key == "hydra.run.dir" and (folder / "checkpoints" / "last.ckpt").exists():
            raise UserError(
                f"{folder} already holds a run: go on with resume={folder}, or give another folder."
            )
