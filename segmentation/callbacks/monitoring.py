"""What is shown of a running training: images per second, and the progress bar."""

import math
import time
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm

from segmentation.machine import used_memory


class Throughput(Callback):
    """Logs `train/images_per_second` and `val/images_per_second` of each epoch, loading included.

    The rates of several processes are summed.
    """

    def __init__(self) -> None:
        self._start = 0.0
        self._end = 0.0
        self._images = 0
        self._trained = (0, 0.0)  # images and seconds of the epoch's training before its latest validation

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock; a run resumed within an epoch does not see the start of that epoch."""
        self._begin()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._begin()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count a batch."""
        self._count(batch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the rate of the training batches, without the validations."""
        self._pause()
        self._log(pl_module, "train", self._trained)
        self._trained = (0, 0.0)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep what was trained and restart the clock."""
        self._pause()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count a batch."""
        self._count(batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the rate of the validation and restart the clock for the training."""
        self._log(pl_module, "val", (self._images, self._end - self._start))
        self._begin()

    def _log(self, pl_module: LightningModule, split: str, done: tuple[int, float]) -> None:
        images, seconds = done
        rate = images / seconds if seconds > 0 else 0.0
        pl_module.log(f"{split}/images_per_second", rate, sync_dist=True, reduce_fx="sum")

    def _pause(self) -> None:
        images, seconds = self._trained
        self._trained = images + self._images, seconds + self._end - self._start
        self._begin()

    def _begin(self) -> None:
        self._start = self._end = time.perf_counter()
        self._images = 0

    def _count(self, batch: Any) -> None:
        self._end = time.perf_counter()
        self._images += len(batch["name"])


class Progress(TQDMProgressBar):
    """Lightning's bar, which counts epochs from 1 as the log does and is removed when the epoch ends.

    It shows the time left for the whole run, validations included, at the pace since it began or went on, and the
    memory: on a GPU the most that was taken of it, else what the process holds. All fits into 80 columns.
    """

    BAR_FORMAT = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{rate_noinv_fmt}{postfix}]"

    def __init__(self) -> None:
        super().__init__(refresh_rate=10)  # each refresh waits for the device
        self._begun = 0.0
        self._first_step = 0

    def on_train_start(self, trainer: Trainer, *args: Any) -> None:
        """Start the clock."""
        super().on_train_start(trainer, *args)
        self._begun, self._first_step = time.perf_counter(), trainer.global_step

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """What is shown behind the bar."""
        shown: dict[str, Any] = {}
        done = trainer.global_step - self._first_step
        left = trainer.estimated_stepping_batches - trainer.global_step
        if done > 0 and math.isfinite(left):
            seconds = (time.perf_counter() - self._begun) / done * left
            shown["left"] = Tqdm.format_interval(seconds)
        on_gpu = torch.cuda.is_initialized()
        if (memory := torch.cuda.max_memory_allocated() if on_gpu else used_memory()) is not None:
            shown["mem"] = f"{memory / 1e9:.1f}G"
        measured = super().get_metrics(trainer, pl_module)
        return shown | {name: value for name, value in measured.items() if name == "loss"}

    def on_validation_batch_start(self, *args: Any, **options: Any) -> None:
        """Lightning would name a loader."""
        super().on_validation_batch_start(*args, **options)
        _name(self.val_progress_bar, "val")

    def on_test_batch_start(self, *args: Any, **options: Any) -> None:
        """Lightning would name a loader."""
        super().on_test_batch_start(*args, **options)
        _name(self.test_progress_bar, "test")

    def init_train_tqdm(self) -> Tqdm:
        """A bar that is removed at the end."""
        bar = super().init_train_tqdm()
        bar.leave = False
        return bar

    def on_train_epoch_start(self, trainer: Trainer, *args: Any) -> None:
        """Show the epoch."""
        super().on_train_epoch_start(trainer, *args)
        self.train_progress_bar.set_description(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Clear the bar for the epoch's log line."""
        super().on_train_epoch_end(trainer, pl_module)
        self.train_progress_bar.clear()


def _name(bar: Tqdm, name: str) -> None:
    if not bar.disable and bar.desc != f"{name}: ":  # setting it draws the bar, too often for every batch
        bar.set_description(name)
