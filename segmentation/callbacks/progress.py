"""The progress bar: where an epoch stands, gone when its line in the log appears."""

from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm


class Progress(TQDMProgressBar):
    """Lightning's bar, counting epochs from 1 as the log does and leaving no trace behind."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=10)  # each refresh waits for the device

    def init_train_tqdm(self) -> Tqdm:
        """A bar that is wiped at the end."""
        bar = super().init_train_tqdm()
        bar.leave = False
        return bar

    def on_train_epoch_start(self, trainer: Trainer, *args: Any) -> None:
        """Names the epoch."""
        super().on_train_epoch_start(trainer, *args)
        self.train_progress_bar.set_description(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Makes room for the epoch's line."""
        super().on_train_epoch_end(trainer, pl_module)
        self.train_progress_bar.clear()
