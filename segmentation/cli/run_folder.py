"""The folder of a run: made for it alone, written by one command at a time, gone if the run is refused."""

import contextlib
import itertools
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from segmentation.cli.overrides import Command, Config, quoted, refuse_words_for_numbers
from segmentation.errors import UserError
from segmentation.writing import refuse_links, remove_unfinished, write_text

log = logging.getLogger(__name__)

_FOLDERS = ("checkpoints", "tensorboard", "csv", "profile", ".hydra")
_FILES = (
    *("config.yaml", "split.csv", "metrics.csv", "curves.png", "predictions.png", "report.json", "report.md"),
    *("classes.csv", "run.log", "error.txt", "pruned.txt", ".lock"),
)
_BEFORE_THE_FIRST_STEP = {"run.log", ".lock", ".hydra", "tensorboard", "csv"}
_CHOOSING = ("hydra.run.dir=", "output=")
_WAIT_S = 2.0  # for a folder's lock before the wait is reported


def has_checkpoint(folder: Path) -> bool:
    """Whether a run in the folder can go on."""
    return (folder / "checkpoints" / "last.ckpt").is_file()


@contextlib.contextmanager
def placed(command: Command) -> Iterator[list[str]]:
    """The command line, with a folder for the run; unchanged where it only asks for something.

    Raises `UserError` where the folder holds another run, and Hydra's exceptions for what cannot be composed.
    """
    if command.only_asks:
        yield [*command.flags, *command.overrides]
        return
    config = command.compose(command.overrides)
    refuse_words_for_numbers(config, config.hydra)
    planned = Path(config.hydra.run.dir)
    if "resume" in config and config.resume is None and has_checkpoint(planned):
        raise UserError(
            f"{planned} already holds a run: go on with resume={planned}, or give another folder."
        )
    chosen = any(override.startswith(_CHOOSING) for override in command.overrides)
    with own_folder(planned, chosen=chosen) as folder:
        yield [*command.flags, *command.overrides, f"hydra.run.dir={quoted(str(folder))}"]


@contextlib.contextmanager
def own_folder(planned: Path, *, chosen: bool) -> Iterator[Path]:
    """A folder for one command: `planned`, or NAME_2 where it exists and was not `chosen` by the user.

    A command that ends before it has written results, as for a wrong option, leaves no new folder behind. Raises
    `UserError` for a folder with symbolic links where a run writes.
    """
    if planned.exists() and (chosen or planned == Path()):
        refuse_links(_written(planned))
        yield planned
        return
    missing = [parent for parent in planned.parents if not parent.exists()]
    planned.parent.mkdir(parents=True, exist_ok=True)
    folder = _make(planned)
    try:
        yield folder
    finally:
        if {path.name for path in folder.iterdir()} <= _BEFORE_THE_FIRST_STEP:
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):  # not empty: another run is there
                for parent in missing:
                    parent.rmdir()


def _make(planned: Path) -> Path:
    # Two commands that start in the same second plan the same name.
    for number in itertools.count(1):
        folder = planned if number == 1 else planned.with_name(f"{planned.name}_{number}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            break
    return folder


def _written(folder: Path) -> Iterator[Path]:
    """What a run writes in its folder, the folders before their contents."""
    yield from (folder / name for name in (*_FOLDERS, *_FILES))
    for name in _FOLDERS:
        yield from (folder / name).rglob("*")


@contextlib.contextmanager
def only_writer(config: Config, folder: Path) -> Iterator[None]:
    """Holds the folder of a single run, where its command has `resume`, and says how an interrupted run goes on.

    Raises `UserError` where another command is writing the run.
    """
    if "resume" not in config:
        yield
        return
    try:
        with FileLock(folder / ".lock", timeout=0), _log_kept_if_refused(folder):
            _tidy(folder)
            yield
    except Timeout:
        raise UserError(f"{folder}: another command is writing this run. Wait for its end.") from None
    except (SystemExit, KeyboardInterrupt):
        if has_checkpoint(folder):
            log.info("interrupted: resume=%s goes on where it stopped", folder)
        else:
            log.info("interrupted before there was anything to resume")
        raise


@contextlib.contextmanager
def _log_kept_if_refused(folder: Path) -> Iterator[None]:
    """Takes the lines of a command that was refused before its first step, which renews config.yaml, out of run.log."""
    log_file, begun = folder / "run.log", _written_at(folder / "config.yaml")
    length = log_file.stat().st_size if log_file.exists() else 0
    try:
        yield
    except UserError:
        if log_file.exists() and _written_at(folder / "config.yaml") == begun:
            os.truncate(log_file, length)
        raise


def _written_at(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.exists() else None


@contextlib.contextmanager
def waiting_writer(folder: Path) -> Iterator[None]:
    """Holds the folder of a sweep's job; waits where another process does.

    Two jobs of one search may have the same values, and a job of a killed command may still be ending. Raises
    `UserError` for symbolic links where a run writes.
    """
    refuse_links(_written(folder))
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=_WAIT_S)
    except Timeout:
        log.info("waiting for another process, which is writing %s", folder)
        lock.acquire()
    try:
        _tidy(folder)
        yield
    finally:
        lock.release()


def is_free(folder: Path) -> bool:
    """Whether no command is writing the run."""
    try:
        with FileLock(folder / ".lock", timeout=0):
            return True
    except Timeout:
        return False


def _tidy(folder: Path) -> None:
    for place in (folder, folder / "checkpoints"):
        remove_unfinished(place)


def keep_config(folder: Path, composed: DictConfig) -> None:
    """Writes `.hydra/` with the config of the run in `folder`, as Hydra does.

    Hydra would write it before the folder is held, also over that of a run with another config, which is refused.
    """
    kept = folder / ".hydra"
    kept.mkdir(exist_ok=True)
    write_text(kept / "config.yaml", OmegaConf.to_yaml(composed))
    write_text(kept / "hydra.yaml", OmegaConf.to_yaml(HydraConfig.instance().cfg))
    write_text(kept / "overrides.yaml", OmegaConf.to_yaml(HydraConfig.get().overrides.task))
