"""Several processes, one job: the first composes it, and the others get it as it is.

Were each to compose its own, every one would have a run folder by its own clock, and in a sweep its own values.
A process that the first one starts finds the job in its environment. Under torchrun, or as a task of Slurm's,
processes meet at a store, from which the others take one job of the first after another.
"""

import json
import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segmentation.cli.job import Job
from segmentation.cli.meeting import (
    free_port,
    key,
    meet,
    no_longer_than_first,
    open_store,
    place,
    see_off,
    tell_over,
)
from segmentation.errors import UserError

if TYPE_CHECKING:
    from torch.distributed import TCPStore

_JOB = "SEGMENTATION_JOB"
_COMMAND = "SEGMENTATION_COMMAND"  # `segmentation/processes.py` runs it
_START = timedelta(minutes=10)  # for the first process to come, and to compose
_JOB_TAKES = timedelta(days=365)


def is_follower() -> bool:
    """Whether another process composes this one's jobs."""
    return _was_started() or place() > 0


def follow(job: Job) -> None:
    """Does what the first process does, without a word, until that one has no more jobs."""
    own = job.job if isinstance(job, _Told) else job
    logging.disable(logging.INFO)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C comes to all, and the first process decides
    if _was_started():
        text = os.environ[_JOB]
        threading.Thread(target=_end_with, args=(json.loads(text)["process"],), daemon=True).start()
        sys.exit(_do(own, text))
    try:
        store = open_store()
    except UserError:  # the first process tells of it
        sys.exit(2)
    try:
        for number in count():
            store.wait([key(number)], _JOB_TAKES if number else _START)
            if not (text := store.get(key(number)).decode()):
                return
            with no_longer_than_first(store, number):
                _do(own, text)
    finally:
        store.add(key("left"), 1)


@contextmanager
def leading(job: Job) -> Iterator[Job]:
    """`job` as one that the other processes are told of first; after the block there are no more.

    Inside of such a block, nothing: `job` is that already. In a process of a launcher, which has been sent
    `job`, the others are those that were started with it.
    """
    told = job if isinstance(job, _Told) else _Told(job)
    if told.store is not None or place() != 0:
        yield told
        return
    told.store = open_store()
    try:
        yield told
    finally:
        told.store.set(key(told.done), "")
        see_off(told.store)
        told.store = None


class _Told:
    """Calls `job`; before that, puts config and folder into the store, if there is one, and into the environment."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.store: TCPStore | None = None
        self.done = 0
        self._command = str(Path(sys.argv[0]).absolute())

    def __getstate__(self) -> dict[str, Any]:
        """For a launcher: its processes have their own store."""
        return {**self.__dict__, "store": None, "done": 0}

    def __call__(self, config: Mapping[str, Any], folder: Path) -> float:
        port = free_port()
        about = {"config": config, "folder": str(folder.absolute()), "port": port, "process": os.getpid()}
        text = json.dumps(about)
        if self.store is not None:
            self.store.set(key(self.done), text)
            meet(port)
        os.environ |= {_JOB: text, _COMMAND: self._command}
        try:
            return self.job(config, folder)
        except Exception as error:
            if self.store is None or not _is_loss(error):
                raise
            raise UserError(
                "Another process of the run has ended before its time, and this one with it."
            ) from error
        finally:
            del os.environ[_JOB], os.environ[_COMMAND]
            if self.store is not None:
                tell_over(self.store, self.done)
                self.done += 1


def _do(job: Job, text: str) -> int:
    """One job; its exit status."""
    told = json.loads(text)
    meet(told["port"])
    try:
        job(told["config"], Path(told["folder"]))
    except Exception as error:
        if isinstance(error, UserError):
            sys.stderr.write(f"error: {error}\n")
            return 2
        if not _is_loss(error):
            logging.getLogger(__name__).exception("a process of the run failed")
        return 1
    return 0


def _is_loss(error: Exception) -> bool:
    """Whether another process is not there any more: that one may have said why, and the first one says so."""
    return "gloo" in str(error) or type(error).__module__.startswith("torch.distributed")


def _was_started() -> bool:
    return _JOB in os.environ and os.environ.get("LOCAL_RANK", "0") != "0"


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
