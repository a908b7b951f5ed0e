"""One process among those that judge together."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from pytorch_lightning.strategies import ModelParallelStrategy, ParallelStrategy
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from segmentation.callbacks.checkpoint import AtomicCheckpointIO
from segmentation.config import EvaluationSettings, checked
from segmentation.environment import choose_device
from segmentation.errors import UserError, closest

# MERGED FROM processes: The other processes of a run on this machine: started, watched, and ended with it.
# MERGED FROM callbacks/spread: How a run is spread over processes: what the trainer must be told, beyond its option

COMMAND = "SEGMENTATION_COMMAND"
"""Names the environment variable with the script that a further process runs."""

_GRACE_S = 10.0  # to end by itself: a process notices the loss of another at its next exchange, if at all


@contextmanager
def worker_processes(trainer: Trainer) -> Iterator[None]:
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


Section = Mapping[str, Any]

_STRATEGIES = ("auto", "ddp", "fsdp")

_WHOLE_WEIGHTS = ("ema_decay", "freeze_backbone_epochs", "sync_batchnorm")


def strategy_options(options: Section, callbacks: Section, device: torch.device) -> dict[str, Any]:
    """The trainer's options with each `auto` made a value, and with the plugins that several processes need.

    Raises `UserError` for what this device, or this way of spreading, cannot do.
    """
    strategy, gpu = options.get("strategy", "auto"), device.type == "cuda"
    if strategy not in _STRATEGIES:
        raise UserError(f"trainer.strategy={strategy} was not tried here.{closest(strategy, _STRATEGIES)}")
    alone = strategy == "auto" and options.get("devices") == 1
    if strategy == "fsdp":
        _refuse_whole_weights(options, callbacks)
        # Cut up within a machine, alike on each. Checkpoints are whole: they are used without these processes.
        strategy = ModelParallelStrategy(save_distributed_checkpoint=False)
    if callbacks.get("freeze_backbone_epochs") and not alone:
        strategy = "ddp_find_unused_parameters_true"  # else it waits for gradients of the frozen ones
    normed = options.get("sync_batchnorm", False)
    if normed is True and not gpu:
        raise UserError("trainer.sync_batchnorm=true needs GPUs: take auto or false.")
    return {
        **options,
        **_places(options),
        "strategy": strategy,
        "sync_batchnorm": (gpu and not alone) if normed == "auto" else normed,
    }


def plugins() -> list[Any]:
    """Checkpoints that are whole or absent; and under Slurm none of Lightning's own at a signal."""
    return [
        AtomicCheckpointIO(),
        *([SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []),
    ]


def _refuse_whole_weights(options: Section, callbacks: Section) -> None:
    for section, given in {"callbacks": callbacks, "trainer": options}.items():
        for option in _WHOLE_WEIGHTS:
            if given.get(option):
                raise UserError(
                    f"{section}.{option}={given[option]} needs the weights in one piece: take trainer=ddp for it."
                )


def _places(options: Section) -> dict[str, Any]:
    # Whoever started the processes has said how many there are: to type it again could only be wrong.
    places, machines = options.get("devices", "auto"), options.get("num_nodes", "auto")
    local, nodes = _started()
    if local and places not in ("auto", local):
        raise UserError(
            f"trainer.devices={places}, but {local} processes were started on this machine:"
            " take trainer=ddp, and leave trainer.devices out."
        )
    return {"devices": local or places, "num_nodes": nodes if machines == "auto" else machines}


def _started() -> tuple[int | None, int]:
    if TorchElasticEnvironment.detect():
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        return local, int(os.environ["WORLD_SIZE"]) // local
    if SLURMEnvironment.detect():
        tasks, nodes = int(os.environ["SLURM_NTASKS"]), int(os.environ["SLURM_NNODES"])
        if tasks > 1 and "SLURM_STEP_ID" not in os.environ:
            raise UserError(f"Slurm gave {tasks} tasks, but this is one process: put srun before python.")
        return tasks // nodes, nodes
    return None, 1


Thing = TypeVar("Thing")


@dataclass(frozen=True)
class ProcessShare:
    """This process's number among `processes`."""

    process: int = 0
    processes: int = 1

    @property
    def is_first(self) -> bool:
        """Whether it is the one that writes and speaks."""
        return self.process == 0

    def gathered(self, own: list[Thing]) -> list[Thing]:
        """For the first process what all have, in no order; nothing for the others. All must call it."""
        if self.processes == 1:
            return own
        from torch import distributed

        parts: list[list[Thing]] | None = [[] for _ in range(self.processes)] if self.is_first else None
        distributed.gather_object(own, parts)
        return [thing for part in parts or () for thing in part]


SINGLE_PROCESS = ProcessShare()


def open_trainer(settings: EvaluationSettings) -> Trainer:
    """A trainer that trains nothing: it knows the other processes, and the device of this one.

    Raises `UserError` for a device that is not there, and for a number of processes that cannot be.
    """
    device = choose_device(settings.accelerator)
    options = strategy_options({"strategy": "auto", **settings.trainer}, {}, device)
    try:
        return Trainer(
            **checked("trainer", Trainer, options),
            accelerator=device.type,
            plugins=plugins(),
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
        )
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise UserError(f"trainer: {str(error).splitlines()[0]}") from error


@contextmanager
def evaluation_processes(trainer: Trainer) -> Iterator[ProcessShare]:
    """This process's place, beside the others for as long as the block runs; see `company` for what it raises."""
    with worker_processes(trainer):
        trainer.strategy.setup_environment()
        yield ProcessShare(trainer.global_rank, trainer.world_size)
