"""What several processes are refused for, and what one process leaves behind."""

import os

import pytest
import torch
from pytorch_lightning import Trainer

from segmentation.distributed import process_group, strategy_options
from segmentation.errors import UserError


def trainer_of(devices: int) -> Trainer:
    return Trainer(
        accelerator="cpu",
        strategy="ddp",
        devices=devices,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )


def test_a_library_call_starts_no_processes() -> None:
    with pytest.raises(UserError, match=r"take trainer\.devices=1"), process_group(trainer_of(2)):
        pytest.fail("without the others")


def test_machines_are_for_torchrun_and_slurm() -> None:
    with pytest.raises(UserError, match=r"trainer\.num_nodes=2: .*torchrun or Slurm"):
        strategy_options({"strategy": "ddp", "devices": 2, "num_nodes": 2}, {}, torch.device("cpu"))


def test_a_process_group_leaves_the_environment_as_it_was() -> None:
    before, trainer = dict(os.environ), trainer_of(1)
    with process_group(trainer):
        trainer.strategy.setup_environment()
        assert torch.distributed.is_initialized()
        assert dict(os.environ) != before
    assert dict(os.environ) == before
    assert not torch.distributed.is_initialized()
