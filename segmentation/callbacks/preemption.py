"""Preemption: on Ctrl-C, SIGTERM or SIGUSR1 a run finishes its step, writes a checkpoint and ends."""

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import WeightAveraging
from pytorch_lightning.utilities.exceptions import SIGTERMException

from segmentation.data.datamodule import end_loader_processes
from segmentation.machine import ENDING_SIGNALS

log = logging.getLogger(__name__)

_STOPPED = "stopped"
_AGAIN_S = 3.0
"""A signal other than Ctrl-C counts as sent again after so long: process managers send it twice to be sure."""


class Preemption(Callback):
    """Writes the checkpoint `path` and ends the training after the step in which a signal arrives.

    A resumed run continues with the next batch; an interrupted validation starts again. Rank zero decides for all
    processes, because each receives the signal at another moment. The step may never end: a second Ctrl-C ends the run
    at once, and so does another signal that is sent again, or any one before the first step or after the last one,
    where nothing can be lost.
    `status` is the exit status that a shell expects after the signal; that of Ctrl-C if there was none. `gave_up` says
    that a second signal has ended the run, whatever exception followed.
    A training that early stopping had ended before it was interrupted continues when resumed, unless
    `stays_stopped`.
    """

    def __init__(self, path: Path) -> None:
        self.stays_stopped = False
        self.gave_up = False
        self._caught = 0
        self._since = 0.0
        self._path = path
        self._process = os.getpid()
        self._earlier: dict[int, Any] = {}
        self._stepping = False
        self._validating = False

    @property
    def status(self) -> int:
        """128 plus the number of the signal."""
        return 128 + (self._caught or signal.SIGINT)

    @contextmanager
    def listening(self, trainer: Trainer) -> Iterator[None]:
        """Handles the signals while the block runs; the block ends with `SystemExit` on a signal."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread can handle signals
            return
        self._earlier = {number: signal.getsignal(number) for number in ENDING_SIGNALS}
        try:
            self._listen(trainer, stepping=False)
            yield
        finally:
            for number, handler in self._earlier.items():
                signal.signal(number, handler)
            self._earlier = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From now on there is a state to save."""
        self._listen(trainer, stepping=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """All is saved: a signal that arrived after the last step ends the run now."""
        if self._earlier and self._agreed(trainer):
            raise SystemExit(self.status)
        self._listen(trainer, stepping=False)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning has replaced these handlers with its own: set them again."""
        self._listen(trainer, stepping=False)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Ends Lightning's loop after this step, in all processes or in none."""
        if self._may_end(trainer):
            trainer._signal_connector.received_sigterm = True

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Ends a validation too, which may take longer than the time that is left."""
        if self._may_end(trainer):
            self._validating = True
            raise SIGTERMException

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Writes the checkpoint if the processes have agreed to end; after any other error there is no valid state."""
        if not self._stepping or not isinstance(exception, SIGTERMException):
            return
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if self._validating and isinstance(callback, WeightAveraging):
                # During a validation the model holds the averaged weights: swap them back.
                callback.on_validation_epoch_end(trainer, pl_module)
        trainer.save_checkpoint(self._path)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Marks an interrupted validation as one whose first batch was started, so that it is done again."""
        checkpoint[_STOPPED] = trainer.should_stop
        if self._validating:
            begun = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
            progress = {"total": begun, "current": begun, "is_last_batch": False}
            checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"] = progress

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keeps a run that had stopped early from training one more epoch, after it was killed during its test."""
        if trainer.strategy.broadcast(self.stays_stopped):
            trainer.should_stop = self.has_stopped(checkpoint)
            if trainer.should_stop:
                log.info("the training had ended early: only the test is left")

    @staticmethod
    def has_stopped(checkpoint: Mapping[str, Any]) -> bool:
        """Whether the checkpoint is that of a training that early stopping had ended."""
        return bool(checkpoint.get(_STOPPED))

    def _listen(self, trainer: Trainer, *, stepping: bool) -> None:
        # Replaces Lightning's own handler, which communicates with other processes from within the handler.
        self._stepping = stepping
        for number, earlier in self._earlier.items():
            others = signal.SIG_IGN if stepping else earlier
            signal.signal(number, self._note if trainer.is_global_zero else others)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a loader process: this one still needs its batch
        waited = time.monotonic() - self._since
        repeated = number == self._caught and (number == signal.SIGINT or waited > _AGAIN_S)
        announced = bool(self._caught)
        if number != self._caught:
            self._caught, self._since = number, time.monotonic()
        if repeated:
            self.gave_up = True
            # The loaders' processes may hang as well, and would be waited for.
            end_loader_processes()
        if repeated or not self._stepping:
            raise SystemExit(self.status)
        if not announced:
            log.info("stopping after this step")

    def _may_end(self, trainer: Trainer) -> bool:
        # A checkpoint holds no gradients: those that are still being added would be lost.
        adding = trainer.fit_loop._should_accumulate()
        return bool(self._earlier) and not adding and self._agreed(trainer)

    def _agreed(self, trainer: Trainer) -> bool:
        if trainer.world_size == 1:
            return bool(self._caught)
        caught = torch.tensor(self._caught, device=trainer.strategy.root_device)
        torch.distributed.all_reduce(caught)  # the other processes ignore the signals
        return bool(caught)
