"""The other processes of a run on this machine: started, watched, and ended with it.

Not Lightning's launcher: it would run the command line again, which in a sweep is the whole sweep. A process that
is started here gets the job that this one has, config and folder; `segmentation/cli/ranks.py` says how.
Under torchrun and Slurm all processes are there already, and nothing is done.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.strategies import ParallelStrategy

from segmentation.errors import UserError

COMMAND = "SEGMENTATION_COMMAND"
"""Names the environment variable with the script that a further process runs."""

_GRACE_S = 10.0  # to end by itself: a process notices the loss of another at its next exchange, if at all


@contextmanager
def company(trainer: Trainer) -> Iterator[None]:
    """The other processes of `trainer` on this machine, for as long as the block runs.

    Raises `UserError` where one of them has ended before its time, and where there should be other machines. One
    that dies while this process works on, or waits for it in vain, ends it after ten seconds, with exit status 2.
    """
    strategy = trainer.strategy
    if not isinstance(strategy, ParallelStrategy) or strategy.cluster_environment is None:
        yield
    elif strategy.cluster_environment.creates_processes_externally:
        try:
            yield
        finally:
            _leave()
    else:
        _refuse_what_none_here_can_start(trainer)
        with _same_environment_after(), _shared_threads(trainer.num_devices), _others(trainer.num_devices):
            yield


def _refuse_what_none_here_can_start(trainer: Trainer) -> None:
    if COMMAND not in os.environ:
        raise UserError("Several processes are for commands such as train.py: here, take trainer.devices=1.")
    if trainer.num_nodes > 1:
        # They would be waited for, half an hour and without a word.
        raise UserError(
            f"trainer.num_nodes={trainer.num_nodes}: on several machines torchrun or Slurm starts the processes and"
            " says how many there are. Leave it out, and see docs/clusters.md."
        )


@contextmanager
def _same_environment_after() -> Iterator[None]:
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ |= before  # another machine's address, say, that an earlier command left


@contextmanager
def _shared_threads(processes: int) -> Iterator[None]:
    """torch's threads, dealt to the processes; what a user has set for OpenMP is each one's own.

    Two processes with two threads each on two cores take eight times as long as with one each.
    """
    before = torch.get_num_threads()
    if "OMP_NUM_THREADS" not in os.environ:
        os.environ["OMP_NUM_THREADS"] = str(max(before // processes, 1))  # for the others
        torch.set_num_threads(max(before // processes, 1))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _others(processes: int) -> Iterator[None]:
    others = _start(processes)
    over = threading.Event()
    threading.Thread(target=_watch, args=(others, over), daemon=True).start()
    try:
        yield
    except BaseException as error:
        # A signal is for all of them, and the end of the others would only follow from it.
        own = isinstance(error, UserError) or not isinstance(error, Exception)
        reason = None if own else _first_death(others)
        for other in others:  # deaf to Ctrl-C, and at work on what is over
            other.kill()
        if reason is not None:
            raise UserError(reason) from error
        raise
    finally:
        over.set()
        _leave()
        _end(others)


def _start(processes: int) -> list[subprocess.Popen[bytes]]:
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "NODE_RANK": "0",
        "WORLD_SIZE": str(processes),
        "LOCAL_RANK": "0",
    }
    command = [sys.executable, os.environ[COMMAND]]
    return [
        subprocess.Popen(command, env={**os.environ, "LOCAL_RANK": str(rank)}) for rank in range(1, processes)
    ]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _watch(others: list[subprocess.Popen[bytes]], over: threading.Event) -> None:
    while not over.wait(1.0):
        if (reason := _death(others)) is not None:
            if not over.wait(_GRACE_S):
                # The main thread may wait inside of NCCL, where no exception reaches it.
                sys.stderr.write(f"error: {reason}\n")
                sys.stderr.flush()
                for other in others:
                    other.kill()
                os._exit(2)
            return


def _first_death(others: list[subprocess.Popen[bytes]]) -> str | None:
    """As `_death`, with a moment for the process whose loss was just felt to be gone."""
    for _ in range(20):
        if (reason := _death(others)) is not None:
            return reason
        time.sleep(0.1)
    return None


def _death(others: list[subprocess.Popen[bytes]]) -> str | None:
    for rank, other in enumerate(others, start=1):
        status = other.poll()
        if status:
            how = f"by signal {signal.Signals(-status).name}" if status < 0 else f"with exit status {status}"
            return f"Process {rank} of the run ended {how}, and the others with it."
    return None


def _leave() -> None:
    import torch.distributed

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _end(others: list[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + _GRACE_S
    for other in others:
        try:
            other.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            other.kill()
            other.wait()
