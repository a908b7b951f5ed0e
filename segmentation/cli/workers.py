"""Signals to a sweep whose jobs run in processes of a launcher's, which ends them without mercy if it is let.

The command hands a signal on to its workers and leaves when their jobs have ended their steps and written where
they were. A worker whose job was cut off takes no other; it waits for its end, because one that left by itself
would take the others along. It ends with the command, too, however that ends.
"""

import contextlib
import functools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TypeVar

from segmentation.cli.ledger import Ledger

Result = TypeVar("Result")

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_TICK_S = 0.1
_GRACE_S = 60.0  # for the step and the checkpoint of a worker whose command is gone


@contextlib.contextmanager
def commanding(folder: Path) -> Iterator[None]:
    """Inside, Ctrl-C, SIGTERM and SIGUSR1 end the jobs of the sweep in `folder`, then the command: 128 + the signal.

    A second signal ends all of them where they stand. Jobs in the command's own process end by the first.
    """
    _mark(folder).unlink(missing_ok=True)
    if threading.current_thread() is not threading.main_thread():
        yield  # signals go to the main thread alone
        return
    caught = 0
    own = os.getpid()

    def leave(number: int, frame: FrameType | None) -> None:
        nonlocal caught
        if os.getpid() != own:
            return  # a loader's process, whose training will end it
        if not caught:
            caught = number
            _mark(folder).touch()
            _end_jobs(Ledger(folder))
        raise SystemExit(128 + number)

    earlier = {number: signal.signal(number, leave) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
        _mark(folder).unlink(missing_ok=True)


def working(folder: Path, command: int, call: Callable[[], Result]) -> Result | None:
    """`call()` in a process that process `command` has started for it; None where a signal cut it off.

    Does not come back where the command is on its way out. In processes of others, on a cluster, just `call()`.
    """
    if not _listens(command):
        return call()
    _Worker.interruptible = not _mark(folder).exists()
    try:
        if not _Worker.interruptible:
            raise SystemExit
        return call()
    except (SystemExit, KeyboardInterrupt):
        while _mark(folder).exists() and os.getppid() == command:
            time.sleep(_TICK_S)
        if os.getppid() != command:
            os._exit(1)
        return None
    finally:
        _Worker.interruptible = False


class _Worker:
    """Whether this process has a job that a signal may end; between jobs it would end the launcher."""

    interruptible = False
    process = 0


@functools.cache
def _listens(command: int) -> bool:
    if os.getppid() != command or threading.current_thread() is not threading.main_thread():
        return False
    _Worker.process = os.getpid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C comes to all, and the command decides
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGUSR1, _leave)
    threading.Thread(target=_end_with, args=(command,), daemon=True).start()
    return True


def _leave(number: int, frame: FrameType | None) -> None:
    if _Worker.interruptible and os.getpid() == _Worker.process:
        _Worker.interruptible = False
        raise SystemExit(128 + number)


def _end_with(command: int) -> None:
    while os.getppid() == command:
        time.sleep(_TICK_S)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_S)
    os._exit(1)


def _end_jobs(ledger: Ledger) -> None:
    told: set[int] = set()
    while busy := _own_children() & ledger.busy():
        for process in busy - told:
            # Not Ctrl-C: coming to a job a second time, it would end it where it stands.
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
        told |= busy
        time.sleep(_TICK_S)


def _own_children() -> set[int]:
    return {child.pid for child in multiprocessing.active_children() if child.pid is not None}


def _mark(folder: Path) -> Path:
    return folder / ".stop"
