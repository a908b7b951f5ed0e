"""A training whose validations have the scores that a test gives them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from segmentation.library_warnings import library_warnings_hidden


class Scripted(LightningModule):
    """Validates to the scores that it is given, after each of an epoch's steps."""

    def __init__(self, scores: Sequence[Mapping[str, float]], steps: int = 1) -> None:
        super().__init__()
        self.scores = scores
        self.steps = steps
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        return (self.weight * batch).sum()

    def validation_step(self, batch: Tensor, index: int) -> None:
        step = self.trainer.fit_loop.epoch_loop.batch_idx
        self.log_dict(dict(self.scores[self.current_epoch * self.steps + step]), batch_size=1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader([torch.ones(1)] * self.steps)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader([torch.ones(1)])  # type: ignore[arg-type]


def trained(
    scores: Sequence[Mapping[str, float]], *callbacks: Callback, steps: int = 1, **how: Any
) -> Trainer:
    """The trainer after these validations, `steps` an epoch, or after those until a callback has ended the training."""
    trainer = Trainer(
        max_epochs=len(scores) // steps,
        val_check_interval=1 / steps,
        callbacks=list(callbacks),
        num_sanity_val_steps=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any("Checkpoint" in type(callback).__name__ for callback in callbacks),
        accelerator="cpu",
    )
    with library_warnings_hidden():
        trainer.fit(Scripted(scores, steps), **how)
    return trainer
