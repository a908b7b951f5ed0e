"""Change the run folder at the first step, and not before."""

from collections.abc import Callable
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer


class FirstStep(Callback):
    """Calls `action` once, in the first process, when there is a batch to train or a validation to run.

    By then the options, the data and the checkpoint have been accepted, so a run that is refused changes nothing.
    """

    def __init__(self, action: Callable[[], None]) -> None:
        self._action: Callable[[], None] | None = action

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The usual beginning."""
        self.begin(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The beginning of a run that was cut off in its validation."""
        self.begin(trainer)

    def begin(self, trainer: Trainer) -> None:
        """Does nothing the second time."""
        action, self._action = self._action, None
        if action is not None and trainer.is_global_zero:
            action()
