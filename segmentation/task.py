"""The LightningModule: one step shared by training, validation and test."""

from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from segmentation.classes import Classes
from segmentation.functional import Decision, resize
from segmentation.metrics import Tally
from segmentation.models import Segmenter
from segmentation.sample import Batch

OptimizerFactory = Callable[[nn.Module], torch.optim.Optimizer]
SchedulersFactory = Callable[..., list[dict[str, Any]]]


class SegmentationTask(LightningModule):
    """Trains and judges a `Segmenter`.

    `loss` maps (logits (B, K, H, W), mask (B, H, W)) to a scalar; the auxiliary head, where there is one,
    adds `aux_weight` times its own. `optimizer` gets the model, `schedulers` the optimizer with
    `total_steps` and `epochs`: both come late because only the trainer knows the run's length.
    `describe` gives the plain data that make a checkpoint self-contained.

    Logs `{split}/loss` and the scores of `metrics.scores` for train, val and test, from counts over the
    whole epoch. Validation and test judge every image at its mask's own size and weigh it by its valid
    pixels, so their numbers do not depend on the batch size.
    """

    def __init__(
        self,
        model: Segmenter,
        *,
        loss: nn.Module,
        classes: Classes,
        optimizer: OptimizerFactory,
        schedulers: SchedulersFactory,
        aux_weight: float = 0.4,
        threshold: float = 0.5,
        describe: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.classes = classes
        self.decision = Decision(classes.binary, threshold)
        self.train_tally = Tally(len(classes), binary=classes.binary)
        self.val_tally = Tally(len(classes), binary=classes.binary)
        self.test_tally = Tally(len(classes), binary=classes.binary)
        self.optimizer = optimizer
        self.schedulers = schedulers
        self._aux_weight = aux_weight
        self._describe = describe

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Raw pixels 0..255 -> logits (B, K, H, W) at the input's size."""
        logits: Tensor = self.model(image_BCHW)
        return logits

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """The loss of one batch, with the auxiliary head's share."""
        mask_BHW = batch["mask"]
        assert isinstance(mask_BHW, Tensor)
        logits_BKHW, auxiliary_BKHW = self.model.with_auxiliary(batch["image"])
        loss: Tensor = self.loss(logits_BKHW, mask_BHW)
        self._count(self.train_tally, loss, logits_BKHW, mask_BHW)
        if auxiliary_BKHW is not None:
            loss = loss + self._aux_weight * self.loss(auxiliary_BKHW, mask_BHW)
        self.log("loss", loss.detach(), prog_bar=True, logger=False)
        return loss

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Counts one batch of the validation split."""
        self._judge(self.val_tally, batch)

    def test_step(self, batch: Batch, batch_index: int) -> None:
        """Counts one batch of the test split."""
        self._judge(self.test_tally, batch)

    def _judge(self, tally: Tally, batch: Batch) -> None:
        for logits_KHW, mask_HW in zip(self(batch["image"]), batch["mask"], strict=True):
            logits_BKHW = resize(logits_KHW[None], (mask_HW.shape[0], mask_HW.shape[1]))
            self._count(tally, self.loss(logits_BKHW, mask_HW[None]), logits_BKHW, mask_HW[None])

    @torch.no_grad()
    def _count(self, tally: Tally, loss: Tensor, logits_BKHW: Tensor, mask_BHW: Tensor) -> None:
        tally.update(loss.detach(), self.decision.labels(logits_BKHW), mask_BHW)

    def on_train_epoch_start(self) -> None:
        """Fresh counts."""
        self.train_tally.reset()

    def on_validation_epoch_start(self) -> None:
        """Fresh counts."""
        self.val_tally.reset()

    def on_test_epoch_start(self) -> None:
        """Fresh counts."""
        self.test_tally.reset()

    def on_train_epoch_end(self) -> None:
        """Scores of the epoch's training batches, as they were seen: augmented, by a changing model."""
        self._log_scores("train", self.train_tally)

    def on_validation_epoch_end(self) -> None:
        """Scores of the validation split."""
        self._log_scores("val", self.val_tally)

    def on_test_epoch_end(self) -> None:
        """Scores of the test split."""
        self._log_scores("test", self.test_tally)

    def _log_scores(self, split: str, tally: Tally) -> None:
        for name, value in tally.scores().items():
            self.log(f"{split}/{name}", value, prog_bar=name == "miou")

    def configure_optimizers(self) -> Any:
        """The optimizer, and schedules over the run's real number of optimizer steps."""
        optimizer = self.optimizer(self.model)
        schedules = self.schedulers(
            optimizer,
            total_steps=self.trainer.estimated_stepping_batches,
            epochs=self.trainer.max_epochs,
        )
        for schedule in schedules:
            if "monitor" in schedule:  # it can only be asked after a validation
                schedule["frequency"] = self.trainer.check_val_every_n_epoch
        return [optimizer], schedules

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what is needed to use the model without this run's configuration."""
        checkpoint["segmentation"] = self._describe()
