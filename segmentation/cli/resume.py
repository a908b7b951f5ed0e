"""`resume=RUN` and `resume=auto` of a single run, and what a sweep's job does with the run in its folder."""

import contextlib
import json
import logging
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from segmentation.cli.overrides import Command, Config, as_plain_data, quoted, unquoted
from segmentation.config import flat
from segmentation.errors import UserError

log = logging.getLogger(__name__)

_KEY = "resume="
_SHOWN = 3  # differences in a message
_WAIT_S = 2.0  # for a folder's lock before the wait is reported
_BEFORE_FIRST_CHECKPOINT = ("checkpoints", "tensorboard")
_MAY_CHANGE = ("trainer.", "compile ")
"""Options that may change when a run goes on: how long, and on how many devices, it trains."""


def with_resumed(arguments: Sequence[str]) -> list[str]:
    """Command line arguments -> the same, after the overrides of the run that `resume=RUN` names, in its folder.

    The overrides typed now hold for this time only. `resume=auto` is the latest unfinished run with this config, if
    any. Raises `UserError` where RUN is no run folder or has no checkpoint to go on from, and where a new run would
    be written over an old one.
    """
    command = Command.parse(arguments, "train")
    runs = [unquoted(each.lstrip("+").removeprefix(_KEY)) for each in command.overrides if _is_resume(each)]
    typed = [override for override in command.overrides if not _is_resume(override)]
    run = runs[-1] if runs else ""
    if run == "auto":
        latest = latest_unfinished([*command.flags, *typed])
        run = "" if latest is None else str(latest)
    if run in ("", "null"):
        _refuse_used_folder(typed)
        return [*command.flags, *typed]
    folder = Path(run).expanduser().resolve()
    kept = [override for override in _earlier(folder, run) if not _is_resume(override)]
    # The run keeps its own .hydra: a mistyped resume must not change what the run is.
    in_its_folder = [
        f"{_KEY}{quoted(str(folder))}",
        f"hydra.run.dir={quoted(str(folder))}",
        "hydra.output_subdir=null",
    ]
    # Hydra refuses a flag between two overrides.
    return [*command.flags, *kept, *typed, *in_its_folder]


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
        folder = Path(unquoted(value))
        if key == "hydra.run.dir" and (folder / "checkpoints" / "last.ckpt").exists():
            raise UserError(
                f"{folder} already holds a run: go on with resume={folder}, or give another folder."
            )


def latest_unfinished(arguments: Sequence[str]) -> Path | None:
    """The run with this config that last wrote a checkpoint, has no report and is not being written; or None.

    It is looked for where a new run would be put. Raises Hydra's exceptions for what cannot be composed.
    """
    command = Command.parse(arguments, "train")
    config = command.compose(command.overrides)
    place = Path(config.hydra.run.dir)
    options = as_plain_data(config)
    chosen = any(override.startswith("hydra.run.dir=") for override in command.overrides)
    found = [
        folder
        for folder in ([place] if chosen else _folders(place.parent))
        if (folder / "checkpoints" / "last.ckpt").is_file()
        and not (folder / "report.json").exists()
        and _has_options(folder, options)
        and _is_free(folder)
    ]
    return max(found, key=lambda folder: (folder / "checkpoints" / "last.ckpt").stat().st_mtime, default=None)


def _folders(place: Path) -> Iterable[Path]:
    return place.iterdir() if place.is_dir() else ()


def _has_options(folder: Path, options: dict[str, object]) -> bool:
    try:
        earlier = yaml.safe_load((folder / "config.yaml").read_text())
    except (OSError, yaml.YAMLError):
        return False
    if not isinstance(earlier, dict):
        return False
    return all(difference.startswith(_MAY_CHANGE) for difference in differences(earlier, options))


def _is_free(folder: Path) -> bool:
    try:
        with FileLock(folder / ".lock", timeout=0):
            return True
    except Timeout:
        return False


def resume_job(config: Config, folder: Path) -> tuple[Config, float | None]:
    """The config with which a sweep's run in `folder` begins or goes on, and its val/miou where it is finished.

    A run is finished when its report.json is whole, also where it was prolonged by hand; a score without a number
    is nan. Raises `UserError` where the folder holds a run with another config, or one that was cut off while it was
    prolonged.
    """
    latest = folder / "config.yaml"
    if (
        not latest.exists()
        or (earlier := _read_config(folder / ".hydra" / "config.yaml") or _read_config(latest)) is None
    ):
        return config, None
    if different := differences(earlier, config):
        raise UserError(
            f"{folder} holds a run of other options ({_listed(different)}): give another name=NAME."
        )
    if (value := _finished(folder)) is not None:
        return config, value
    if changed := differences(_read_config(latest) or earlier, config):
        raise UserError(
            f"{folder} was resumed with other options ({_listed(changed)}) and then cut off: give that command"
            " again first."
        )
    if (folder / "checkpoints" / "last.ckpt").is_file():
        return {**config, "resume": str(folder)}, None
    # It was cut off before its first epoch ended, so nothing is lost.
    for part in _BEFORE_FIRST_CHECKPOINT:
        shutil.rmtree(folder / part, ignore_errors=True)
    return config, None


def keep_config(folder: Path, composed: DictConfig) -> None:
    """Writes `.hydra/` with the config of the run in `folder`, as Hydra does for a single run.

    In a sweep Hydra would write it for every job, also over that of a run with another config, which is refused.
    """
    kept = folder / ".hydra"
    kept.mkdir(exist_ok=True)
    OmegaConf.save(composed, kept / "config.yaml")
    OmegaConf.save(HydraConfig.instance().cfg, kept / "hydra.yaml")
    OmegaConf.save(HydraConfig.get().overrides.task, kept / "overrides.yaml")


@contextlib.contextmanager
def only_writer(config: Config, folder: Path) -> Iterator[None]:
    """Holds the folder of a single run, where its command has `resume`, and says how an interrupted run goes on.

    Raises `UserError` where another command is writing the run.
    """
    if "resume" not in config:
        yield
        return
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise UserError(f"{folder}: another command is writing this run. Wait for its end.") from None
    except (SystemExit, KeyboardInterrupt):
        if (folder / "checkpoints" / "last.ckpt").exists():
            log.info("interrupted: resume=%s goes on where it stopped", folder)
        else:
            log.info("interrupted before there was anything to resume")
        raise


@contextlib.contextmanager
def waiting_writer(folder: Path) -> Iterator[None]:
    """Holds the folder of a sweep's job; waits where another process does.

    Two jobs of one search may have the same values, and a job of a killed command may still be ending.
    """
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=_WAIT_S)
    except Timeout:
        log.info("waiting for another process, which is writing %s", folder)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def differences(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The options that differ, as `trainer.max_epochs 2, now 3`; `resume` does not count."""
    before, after = (flat({**config, "resume": None}) for config in (earlier, now))
    return [
        f"{key} {before.get(key)}, now {after.get(key)}"
        for key in sorted(before.keys() | after.keys())
        if key not in before or key not in after or before[key] != after[key]
    ]


def _listed(different: list[str]) -> str:
    return ", ".join(different[:_SHOWN]) + (", ..." if len(different) > _SHOWN else "")


def _read_config(path: Path) -> Config | None:
    """A config file; None where it cannot be read, or is not complete."""
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
