"""The learning rates, as TensorBoard shows them."""

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer


class LearningRates(Callback):
    """Logs `learning_rate/backbone` and `learning_rate/head` at the trainer's logging interval.

    The groups without weight decay have the rates of those with it: they would only double the charts.
    """

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Looks at the optimizer before its step."""
        if batch_idx % trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        rates = {
            f"learning_rate/{group['name']}": group["lr"]
            for group in trainer.optimizers[0].param_groups
            if not group["name"].endswith("_no_decay")
        }
        for logger in trainer.loggers:
            logger.log_metrics(rates, step=trainer.global_step)
