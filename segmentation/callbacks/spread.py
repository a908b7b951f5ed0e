"""How a run is spread over processes: what the trainer must be told, beyond its options."""

import os
from collections.abc import Mapping
from typing import Any

import torch
from pytorch_lightning.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from pytorch_lightning.strategies import ModelParallelStrategy

from segmentation.callbacks.checkpoints import WholeFiles
from segmentation.errors import UserError, closest

Section = Mapping[str, Any]

_STRATEGIES = ("auto", "ddp", "fsdp")

_WHOLE_WEIGHTS = ("ema_decay", "freeze_backbone_epochs", "sync_batchnorm")


def spread(options: Section, callbacks: Section, device: torch.device) -> dict[str, Any]:
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
    return [WholeFiles(), *([SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else [])]


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
