"""A run that is told to end: it finishes its step, writes where it was, and goes."""

import logging
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import WeightAveraging
from pytorch_lightning.utilities.exceptions import SIGTERMException

log = logging.getLogger(__name__)

_SIGNALS = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGUSR1,
)  # Ctrl-C; a preemption; Slurm's --signal=USR1@SECONDS


class Interruption(Callback):
    """At the end of the step in which Ctrl-C, SIGTERM or SIGUSR1 comes, writes `path` and leaves the training.

    A resumed run goes on with the next batch; a validation that was cut off is done again from its start. The
    first process decides for all, because all get a signal, each at another moment. A second Ctrl-C ends the
    run where it stands. `caught` is the number of the signal, 0 where there was none.
    """

    def __init__(self, path: Path) -> None:
        self.caught = 0
        self._path = path
        self._earlier: dict[int, Any] = {}
        self._validating = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listens. Lightning's own handler, replaced here, talks to the other processes at any moment."""
        if threading.current_thread() is not threading.main_thread():
            return  # signals go to the main thread alone
        handler = self._note if trainer.is_global_zero else signal.SIG_IGN
        self._earlier = {number: signal.signal(number, handler) for number in _SIGNALS}

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listens no more."""
        self._restore()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Lets Lightning's loop leave after this step, in all processes or in none."""
        if self._earlier and self._agreed(trainer):
            trainer._signal_connector.received_sigterm = True

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """A validation may be longer than the time that is left."""
        if self._earlier and self._agreed(trainer):
            self._validating = True
            raise SIGTERMException

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Writes the checkpoint where the processes have agreed to leave; any other exception tells of no state."""
        self._restore()
        if not isinstance(exception, SIGTERMException):
            return
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if self._validating and isinstance(callback, WeightAveraging):
                callback.on_validation_epoch_end(
                    trainer, pl_module
                )  # it lends the model its averages meanwhile
        trainer.save_checkpoint(self._path)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Marks a validation that was cut off as one whose first batch was begun: it will be done again."""
        if self._validating:
            begun = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
            progress = {"total": begun, "current": begun, "is_last_batch": False}
            checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"] = progress

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == self.caught == signal.SIGINT:
            raise KeyboardInterrupt
        self.caught = number
        log.info("stopping after this step")

    def _agreed(self, trainer: Trainer) -> bool:
        if trainer.world_size == 1:
            return bool(self.caught)
        caught = torch.tensor(self.caught, device=trainer.strategy.root_device)
        torch.distributed.all_reduce(caught)  # the others listen to none
        return bool(caught)

    def _restore(self) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)
        self._earlier = {}
