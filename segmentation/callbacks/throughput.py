"""How fast images pass."""

import time
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer


class Throughput(Callback):
    """Logs `train/images_per_second` and `val/images_per_second`, loading included, over each epoch.

    The rates of several processes are added up.
    """

    def __init__(self) -> None:
        self._start = 0.0
        self._end = 0.0
        self._images = 0
        self._train_rate = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock of a run that is resumed in the middle of an epoch."""
        self._begin()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        self._begin()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts a batch."""
        self._pass(batch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the rate of the training batches; the validation in between has its own."""
        self._log(pl_module, "train", self._train_rate or self._rate())
        self._train_rate = 0.0

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps the rate of the training so far and starts the clock again."""
        if trainer.training or trainer.state.fn == "fit":
            self._train_rate = self._rate()
        self._begin()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Counts a batch."""
        self._pass(batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the rate of the validation."""
        self._log(pl_module, "val", self._rate())

    def _log(self, pl_module: LightningModule, split: str, rate: float) -> None:
        pl_module.log(f"{split}/images_per_second", rate, sync_dist=True, reduce_fx="sum")

    def _begin(self) -> None:
        self._start = self._end = time.perf_counter()
        self._images = 0

    def _pass(self, batch: Any) -> None:
        self._end = time.perf_counter()
        self._images += len(batch["name"])

    def _rate(self) -> float:
        seconds = self._end - self._start
        return self._images / seconds if seconds > 0 else 0.0
