"""A run that is told to end: it finishes its step, writes where it was, and goes."""

import logging
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
_STOPPED = "stopped"


class Preemption(Callback):
    """At the end of the step in which Ctrl-C, SIGTERM or SIGUSR1 comes, writes `path` and leaves the training.

    A resumed run goes on with the next batch; a validation that was cut off is done again from its start. The
    first process decides for all, because all get a signal, each at another moment. A second Ctrl-C ends the
    run where it stands, and so does any signal before the first step and after the last: nothing is lost there.
    `status` is what a shell expects of a process that the signal ended, Ctrl-C where there was none.
    A training that had ended early before it was cut off trains on when it is resumed, unless `stays_stopped`.
    """

    def __init__(self, path: Path) -> None:
        self.stays_stopped = False
        self._caught = 0
        self._path = path
        self._process = os.getpid()
        self._earlier: dict[int, Any] = {}
        self._stepping = False
        self._validating = False

    @property
    def status(self) -> int:
        """128 and the signal's number."""
        return 128 + (self._caught or signal.SIGINT)

    @contextmanager
    def listening(self, trainer: Trainer) -> Iterator[None]:
        """Signals come here for as long as the block runs. It leaves by `SystemExit`."""
        if threading.current_thread() is not threading.main_thread():
            yield  # signals go to the main thread alone
            return
        self._earlier = {number: signal.getsignal(number) for number in _SIGNALS}
        try:
            self._listen(trainer, stepping=False)
            yield
        finally:
            for number, handler in self._earlier.items():
                signal.signal(number, handler)
            self._earlier = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on there is a state to keep."""
        self._listen(trainer, stepping=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """All is kept: a signal after the last step, which no other step heeds, ends the run now."""
        if self._earlier and self._agreed(trainer):
            raise SystemExit(self.status)
        self._listen(trainer, stepping=False)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning has put its own handlers in the place of these."""
        self._listen(trainer, stepping=False)

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
        if not self._stepping or not isinstance(exception, SIGTERMException):
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
        checkpoint[_STOPPED] = trainer.should_stop
        if self._validating:
            begun = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
            progress = {"total": begun, "current": begun, "is_last_batch": False}
            checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"] = progress

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Else a run that was killed in its test would come back with an epoch more than it had."""
        if trainer.strategy.broadcast(self.stays_stopped):
            trainer.should_stop = self.has_stopped(checkpoint)

    @staticmethod
    def has_stopped(checkpoint: Mapping[str, Any]) -> bool:
        """Whether it is that of a training that had ended before its last epoch."""
        return bool(checkpoint.get(_STOPPED))

    def _listen(self, trainer: Trainer, *, stepping: bool) -> None:
        # Lightning's own handler, replaced here, talks to the other processes at any moment.
        self._stepping = stepping
        for number, earlier in self._earlier.items():
            others = signal.SIG_IGN if stepping else earlier
            signal.signal(number, self._note if trainer.is_global_zero else others)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a loader's process: this one still wants its batch
        again = number == self._caught == signal.SIGINT
        told, self._caught = bool(self._caught), number
        if again or not self._stepping:
            raise SystemExit(self.status)
        if not told:
            log.info("stopping after this step")

    def _agreed(self, trainer: Trainer) -> bool:
        if trainer.world_size == 1:
            return bool(self._caught)
        caught = torch.tensor(self._caught, device=trainer.strategy.root_device)
        torch.distributed.all_reduce(caught)  # the others listen to none
        return bool(caught)
