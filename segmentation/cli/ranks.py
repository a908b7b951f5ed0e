"""Several processes, one job: the first composes it, and the others get it as it is.

Were each to compose its own, every one would have a run folder by its own clock, and in a sweep its own values.
A process that the first one starts finds the job in its environment. Under torchrun, or as a task of Slurm's,
processes meet at a store, from which the others take one job of the first after another.
"""

import functools
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.distributed import TCPStore

Job = Callable[[Mapping[str, Any], Path], float]

_JOB = "SEGMENTATION_JOB"
_COMMAND = "SEGMENTATION_COMMAND"  # `training/processes.py` runs it
_START = timedelta(minutes=10)  # for the first process to come, and to compose
_JOB_TAKES = timedelta(days=365)


def is_follower() -> bool:
    """Whether another process composes this one's jobs."""
    return _was_started() or _place() > 0


def follow(job: Job) -> None:
    """Does what the first process does, without a word, until that one has no more jobs."""
    logging.disable(logging.INFO)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C comes to all, and the first process decides
    if _was_started():
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
        sys.exit(_do(job, os.environ[_JOB]))
    store = _store()
    for number in count():
        store.wait([_key(number)], _JOB_TAKES if number else _START)
        if not (text := store.get(_key(number)).decode()):
            return
        _do(job, text)


@contextmanager
def leading(job: Job) -> Iterator[Job]:
    """`job` as one that the other processes are told of first; after the block there are no more."""
    store, command = _store() if _place() == 0 else None, str(Path(sys.argv[0]).absolute())
    done = 0

    @functools.wraps(job)
    def told(config: Mapping[str, Any], folder: Path) -> float:
        nonlocal done
        text = json.dumps({"config": config, "folder": str(folder.absolute()), "port": _free_port()})
        if store is not None:
            store.set(_key(done), text)
            _meet(text)
            done += 1
        os.environ |= {_JOB: text, _COMMAND: command}
        try:
            return job(config, folder)
        finally:
            del os.environ[_JOB], os.environ[_COMMAND]

    try:
        yield told
    finally:
        if store is not None:
            store.set(_key(done), "")


def _do(job: Job, text: str) -> int:
    """One job; its exit status. Of a lost connection the first process tells, or the one that was lost."""
    told = json.loads(text)
    _meet(text)
    try:
        job(told["config"], Path(told["folder"]))
    except Exception as error:
        from segmentation.errors import UserError

        if isinstance(error, UserError):
            sys.stderr.write(f"error: {error}\n")
            return 2
        if "gloo" not in str(error) and not type(error).__module__.startswith("torch.distributed"):
            logging.getLogger(__name__).exception("a process of the run failed")
        return 1
    return 0


def _was_started() -> bool:
    return _JOB in os.environ and os.environ.get("LOCAL_RANK", "0") != "0"


def _place() -> int:
    """This process's number among those that torchrun or srun started; -1 where there are no others."""
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ["WORLD_SIZE"] != "1":
        return int(os.environ["RANK"])
    if "SLURM_STEP_ID" in os.environ and os.environ.get("SLURM_NTASKS", "1") != "1":
        return int(os.environ["SLURM_PROCID"])
    return -1


def _store() -> "TCPStore":
    from torch.distributed import TCPStore

    if "TORCHELASTIC_RUN_ID" in os.environ:  # its agent keeps a store
        return TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    from pytorch_lightning.plugins.environments import SLURMEnvironment

    port = 20000 + (int(os.environ["SLURM_JOB_ID"]) + int(os.environ["SLURM_STEP_ID"])) % 20000
    first = _place() == 0
    return TCPStore(SLURMEnvironment().main_address, port, is_master=first, wait_for_workers=False)


def _key(number: int) -> str:
    return f"segmentation/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{number}"


def _meet(text: str) -> None:
    """Where the processes of this job find each other: at the place of an earlier one its traces are left."""
    if _place() >= 0:
        os.environ |= {"MASTER_PORT": str(json.loads(text)["port"]), "TORCHELASTIC_USE_AGENT_STORE": "False"}


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        port: int = free.getsockname()[1]
        return port


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
