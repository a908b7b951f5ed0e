"""Early stopping: end a run whose score no longer improves, and say so."""

import logging
from typing import Any

from pytorch_lightning import LightningModule, Trainer, callbacks

from segmentation.report.report import lower_is_better

log = logging.getLogger(__name__)


class EarlyStopping(callbacks.EarlyStopping):
    """Ends the training after `patience` validations in which `monitor` did not improve by more than `min_delta`.

    nan is no improvement; only a val/loss that is not finite ends the run at once, because the training has diverged.
    A resumed run counts on, with the patience of its own options.
    """

    def __init__(self, monitor: str, *, patience: int, min_delta: float) -> None:
        super().__init__(
            monitor,
            patience=patience,
            min_delta=min_delta,
            mode="min" if lower_is_better(monitor) else "max",
            check_finite=monitor == "val/loss",
            # Check after validations only: a resumed run may end an epoch without one.
            check_on_train_epoch_end=False,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the count and the best score."""
        super().load_state_dict({**state_dict, "patience": self.patience})

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Decides, and gives the reason for an end."""
        stopped = trainer.should_stop
        super().on_validation_end(trainer, pl_module)
        if trainer.should_stop and not stopped:
            score = float(trainer.callback_metrics[self.monitor])
            reason = (
                f"not better than {float(self.best_score):.4f} in {self.wait_count} validations"
                if self.wait_count >= self.patience
                else f"{score}"
            )
            log.info("early stopping in epoch %d: %s is %s", trainer.current_epoch + 1, self.monitor, reason)
