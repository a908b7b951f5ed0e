"""One process among several: the trainer's strategy, torch's process group, and the share of an evaluation.

Processes are started outside: by `segmentation.cli.launch`, by torchrun or by Slurm.
"""

import os
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
from segmentation.config import EvaluationSettings
from segmentation.environment import choose_device
from segmentation.errors import UserError
from segmentation.options import checked

Section = Mapping[str, Any]
Thing = TypeVar("Thing")

OWN_LAUNCH = "segmentation"
"""torch's run id (TORCHELASTIC_RUN_ID) in the processes that `segmentation.cli.launch` starts."""

_WHOLE_WEIGHTS = ("ema_decay", "freeze_backbone_epochs", "sync_batchnorm")


@contextmanager
def process_group(trainer: Trainer) -> Iterator[None]:
    """Closes torch's process group, which `trainer` opens, at the end of the block.

    Raises `UserError` where `trainer` wants other processes and nobody has started them.
    """
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if not isinstance(trainer.strategy, ParallelStrategy) or environment is None:
        yield
        return
    if trainer.world_size > 1 and not environment.creates_processes_externally:
        raise UserError("Several processes are for commands such as train.py: here, take trainer.devices=1.")
    # Lightning sets some, which the next run of this process would take for a cluster's.
    variables = dict(os.environ)
    try:
        yield
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        for name in os.environ.keys() - variables.keys():
            del os.environ[name]
        os.environ |= variables


def strategy_options(options: Section, callbacks: Section, device: torch.device) -> dict[str, Any]:
    """The trainer's options with values for each `auto`.

    Raises `UserError` for what this device, or this strategy, cannot do.
    """
    strategy, gpu = options.get("strategy", "auto"), device.type == "cuda"
    alone = strategy == "auto" and options.get("devices") == 1
    if strategy == "fsdp":
        _refuse_whole_weights(options, callbacks)
        # Sharded within a machine, replicated between machines. Checkpoints are whole, to be used by one process.
        strategy = ModelParallelStrategy(save_distributed_checkpoint=False)
    if callbacks.get("freeze_backbone_epochs") and not alone:
        strategy = "ddp_find_unused_parameters_true"  # else it waits for gradients of the frozen ones
    normed = options.get("sync_batchnorm", False)
    if normed is True and not gpu:
        raise UserError("trainer.sync_batchnorm=true needs GPUs: take auto or false.")
    return {
        **options,
        **_process_counts(options),
        "strategy": strategy,
        "sync_batchnorm": (gpu and not alone) if normed == "auto" else normed,
    }


def plugins() -> list[Any]:
    """Atomic checkpoints; and under Slurm none of Lightning's own at a signal."""
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


def _process_counts(options: Section) -> dict[str, Any]:
    devices, machines = options.get("devices", "auto"), options.get("num_nodes", "auto")
    local, nodes = _started()
    if machines not in ("auto", nodes):
        # They would be waited for, half an hour and without a message.
        raise UserError(
            f"trainer.num_nodes={machines}: on several machines torchrun or Slurm starts the processes and"
            " says how many there are. Leave it out, and see docs/clusters.md."
        )
    if os.environ.get("TORCHELASTIC_RUN_ID") == OWN_LAUNCH:
        return {"devices": devices, "num_nodes": nodes}  # from which the number of processes comes
    # torchrun and Slurm were told how many processes there are: to type it again could only be wrong.
    if local and devices not in ("auto", local):
        raise UserError(
            f"trainer.devices={devices}, but {local} processes were started on this machine:"
            " take trainer=ddp, and leave trainer.devices out."
        )
    return {"devices": local or devices, "num_nodes": nodes}


def _started() -> tuple[int | None, int]:
    """Processes of this machine and number of machines; None and 1 where only this process was started."""
    if TorchElasticEnvironment.detect():
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        return local, int(os.environ["WORLD_SIZE"]) // local
    if SLURMEnvironment.detect():
        tasks, nodes = int(os.environ["SLURM_NTASKS"]), int(os.environ["SLURM_NNODES"])
        if tasks > 1 and "SLURM_STEP_ID" not in os.environ:
            raise UserError(f"Slurm gave {tasks} tasks, but this is one process: put srun before python.")
        return tasks // nodes, nodes
    return None, 1


@dataclass(frozen=True)
class ProcessShare:
    """The number of this process among `processes`."""

    process: int = 0
    processes: int = 1

    @property
    def is_first(self) -> bool:
        """Whether it is the one that writes and reports."""
        return self.process == 0

    def gathered(self, own: list[Thing]) -> list[Thing]:
        """In the first process the items of all, in no order; elsewhere none. All processes must call it."""
        if self.processes == 1:
            return own
        parts: list[list[Thing]] | None = [[] for _ in range(self.processes)] if self.is_first else None
        torch.distributed.gather_object(own, parts)
        return [thing for part in parts or () for thing in part]


SINGLE_PROCESS = ProcessShare()


def open_trainer(settings: EvaluationSettings) -> Trainer:
    """A trainer that does not train, for its knowledge of the other processes and of this one's device.

    Raises `UserError` for a device that does not exist, and for an impossible number of processes.
    """
    device = choose_device(settings.device)
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
    """This process among those of the evaluation; raises as `process_group` does."""
    with process_group(trainer):
        trainer.strategy.setup_environment()
        yield ProcessShare(trainer.global_rank, trainer.world_size)
