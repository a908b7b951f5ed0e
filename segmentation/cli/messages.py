"""Messages: an exception becomes one line on stderr that says what is wrong and how to cure it; logs are printable.

`conf/hydra/job_logging` names the two classes.
"""

import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from segmentation.errors import UserError, closest, one_line, printable
from segmentation.machine import ENDING_SIGNALS
from segmentation.writing import no_link

# Hydra is imported where it is needed: --help must not wait for it.
if TYPE_CHECKING:
    from hydra.errors import MissingConfigException, OverrideParseException
    from omegaconf.errors import ConfigAttributeError, ConfigKeyError


_OUT_OF_MEMORY = re.compile("out of memory|can't allocate memory")  # torch's words


USUAL_NAMES = {
    "epochs": "trainer.max_epochs",
    "max_epochs": "trainer.max_epochs",
    "steps": "trainer.max_steps",
    "max_steps": "trainer.max_steps",
    "gpus": "trainer.devices",
    "devices": "trainer.devices",
    "lr": "optimizer.lr",
    "learning_rate": "optimizer.lr",
    "weight_decay": "optimizer.weight_decay",
    "batch": "data.batch_size",
    "batch_size": "data.batch_size",
    "workers": "data.workers",
    "num_workers": "data.workers",
    "size": "data.size",
    "imgsz": "data.size",
    "image_size": "data.size",
    "img_size": "data.size",
    "root": "dataset.root",
    "data_root": "dataset.root",
    "data_dir": "dataset.root",
    "model": "backbone",
    "device": "trainer.accelerator",
}
"""What other programs call an option, and what it is called here."""


class PrintableFormatter(logging.Formatter):
    """Escapes what a terminal would obey: file and class names may hold any character."""

    def format(self, record: logging.LogRecord) -> str:
        """The record in lines of printable characters."""
        return "\n".join(map(printable, super().format(record).split("\n")))


class LogFile(logging.FileHandler):
    """Appends to a file, and refuses a symbolic link in its place."""

    def _open(self) -> Any:
        return open(self.baseFilename, self.mode, encoding="utf-8", errors="replace", opener=no_link)


@contextmanager
def short_messages(quiet: bool) -> Iterator[None]:
    """Ends the process with a message for a user's mistake, unless `quiet` is false, and with 130 for Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        if (status := _interrupted(error)) is not None:
            sys.exit(status)
        message = explain(error) if quiet else None
        if message is None:
            raise
        stop(message)


def _interrupted(error: BaseException | None) -> int | str | None:
    """The exit status of the signal that came before the error; None without one.

    A library that is interrupted midway may fail while it cleans up, and its error takes the place of the exit.
    """
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return 128 + signal.SIGINT
        if isinstance(error, SystemExit):
            return error.code
        error = error.__context__
    return None


@contextmanager
def signals_as_exits() -> Iterator[None]:
    """Inside, SIGTERM and SIGUSR1 raise `SystemExit` with 128 + the signal, as Ctrl-C raises `KeyboardInterrupt`.

    Otherwise they would end the process at once, with what it holds: locks, half a file, the processes of a launcher.
    A training has handlers of its own while it steps. One of several processes of a run keeps the system's handling:
    it may wait for another in code that no exception reaches.
    """
    with nullcontext() if rank() >= 0 else handling({*ENDING_SIGNALS} - {signal.SIGINT}, leave):
        yield


@contextmanager
def handling(numbers: Iterable[int], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Inside, these signals go to `handler`. Does nothing outside of the main thread, to which they all go."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    earlier = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, before in earlier.items():
            signal.signal(number, before)


def leave(number: int, frame: FrameType | None) -> None:
    """A signal's handler: ends the process with the exit status that a shell expects."""
    raise SystemExit(128 + number)


def say(text: str) -> None:
    """Prints the text, also into a pipe whose reader has gone, as `head` does."""
    try:
        print(text, flush=True)  # noqa: T201
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes once more when it ends


def stop(message: str) -> NoReturn:
    """Ends the process as for a user's mistake."""
    sys.stderr.write(f"error: {message}\n")
    sys.exit(2)


def explain(error: BaseException) -> str | None:
    """An exception -> one line that says what is wrong and what to do; None where the fault is ours."""
    message = _explained(error)
    return None if message is None else one_line(message)


def _explained(error: BaseException) -> str | None:
    from hydra.errors import (
        ConfigCompositionException,
        HydraException,
        MissingConfigException,
        OverrideParseException,
    )
    from omegaconf.errors import (
        ConfigAttributeError,
        ConfigKeyError,
        InterpolationKeyError,
        MissingMandatoryValue,
        OmegaConfBaseException,
    )
    from yaml import MarkedYAMLError

    if isinstance(error, UserError):
        return str(error)
    if rank() == 0 and lost_another(error):
        return "Another process of the run has ended before its time, and this one with it."
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} is missing: give {error.full_key}=VALUE."
    if isinstance(error, ConfigCompositionException) and not str(error) and error.__cause__ is not None:
        return _explained(error.__cause__)
    if isinstance(error, MissingConfigException):
        return _missing_option(error)
    if isinstance(error, OverrideParseException):
        return _unreadable(error)
    twice = re.match(r"Multiple values for (.+?)\. To override a value use 'override .+?: (.*)'", str(error))
    if isinstance(error, ConfigCompositionException) and twice:
        return f"{twice[1]} is chosen already: write {twice[1]}={twice[2]}, without a +."
    if isinstance(error, ConfigCompositionException) and str(error).startswith("Ambiguous"):
        return f"{_first_line(error)}: add -m (--multirun) to run each value, or write a list as KEY=[1,2]."
    if isinstance(error, ConfigCompositionException) and isinstance(
        error.__cause__, ConfigAttributeError | ConfigKeyError
    ):
        return _unknown_key(error.__cause__)
    if isinstance(error, InterpolationKeyError):
        return f"{error.full_key} refers to something that is not there: {_first_line(error)}."
    if isinstance(error, ValueError) and str(error).startswith("Config group override"):
        return "A group cannot be null: choose one of its options by name, see --help."
    if isinstance(error, ValueError) and str(error).startswith("Only one of --"):
        return _first_line(error) + "."
    if isinstance(error, MarkedYAMLError):
        mark = error.problem_mark
        place = f"{mark.name}, line {mark.line + 1}" if mark else "A config file"
        return f"{place}: {error.problem}: correct the YAML."
    if isinstance(error, ValueError) and isinstance(error.__cause__, OSError):
        return _explained(error.__cause__)  # of a log file that logging could not open
    if isinstance(error, RuntimeError) and "determine home directory" in str(error):
        return "A path begins with ~NAME, but there is no user of that name: write the whole path."
    if isinstance(error, RuntimeError) and "have a deterministic implementation" in str(error):
        what = str(error).partition(" ")[0]
        return (
            f"trainer.deterministic=true: {what} cannot be so on this device, use trainer.deterministic=warn."
        )
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}."
    if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)):
        return f"{_first_line(error)}: choose smaller images or batches."
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _first_line(error) + "."
    return None


def _unreadable(error: "OverrideParseException") -> str:
    start = f"'{error.override}' cannot be read: "
    reason = re.search(r" while evaluating '.*': (.+)", str(error))
    if reason is None:
        return f"{start}write KEY=VALUE, a list as KEY=[1,2], and quote special characters."
    choice = re.fullmatch(r"(.+)=choice\((.*)\)", error.override)
    if choice and "NoneType" in reason[1]:
        return f"{start}choice() takes no null, a bare list does: {choice[1]}={choice[2]}."
    return f"{start}{reason[1].rstrip('.')}."


def _missing_option(error: "MissingConfigException") -> str:
    group, _, option = str(error.missing_cfg_file).rpartition("/")
    if not group:
        return f"There is no config '{option}'."
    if group in ("hydra/sweeper", "hydra/launcher"):
        return f"{group}={option} needs its package: pip install '.[sweep]'."
    # A leading underscore marks files that other options inherit from.
    choices = [name for name in error.options or [] if not name.startswith("_")]
    return f"{group}={option} is unknown.{closest(option, choices)}"


def _unknown_key(error: "ConfigAttributeError | ConfigKeyError") -> str:
    from segmentation.ranges import NOT_HERE  # with pydantic, for which --help must not wait

    full_key, key = str(error.full_key), str(error.key)
    siblings: Iterable[str] = () if error.parent_node is None else map(str, error.parent_node.keys())
    section = USUAL_NAMES.get(full_key, "").partition(".")[0]
    if section in (siblings := [*siblings]):
        return f"There is no option '{full_key}': write {USUAL_NAMES[full_key]}=VALUE."
    message = f"There is no option '{full_key}'.{closest(key, siblings)}"
    if full_key != f"trainer.{key}":
        return message
    if key in NOT_HERE:
        return f"{full_key} cannot be set: {NOT_HERE[key]}."
    return f"{message} Others of Lightning's: +{full_key}=VALUE."


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")


def rank() -> int:
    """This process's number among those that torchrun or srun started; -1 where there are no others."""
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ["WORLD_SIZE"] != "1":
        return int(os.environ["RANK"])
    if "SLURM_STEP_ID" in os.environ and os.environ.get("SLURM_NTASKS", "1") != "1":
        return int(os.environ["SLURM_PROCID"])
    return -1


def lost_another(error: BaseException) -> bool:
    """Whether the error only says that another process of the run is gone."""
    return "gloo" in str(error) or type(error).__module__.startswith("torch.distributed")
