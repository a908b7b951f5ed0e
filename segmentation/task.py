"""The LightningModule: one step shared by training, validation and test."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from segmentation.metrics import TrainingMetrics
from segmentation.models import Decision, Segmenter, resize, shard
from segmentation.optim import match_memory_format
from segmentation.types import Batch, Classes

OptimizerFactory = Callable[[nn.Module], torch.optim.Optimizer]
SchedulersFactory = Callable[..., list[dict[str, Any]]]


class SegmentationTask(LightningModule):
    """Trains and judges a `Segmenter`.

    `loss` maps (logits (B, K, H, W), mask (B, H, W), process group or None) to a scalar; the auxiliary head, where
    there is one, adds `aux_weight` times its own. `optimizer` gets the model, `schedulers` the optimizer with
    `total_steps` and `epochs`: both come late because only the trainer knows the run's length.
    `describe` gives the plain data that make a checkpoint self-contained.

    Logs `{split}/loss` and the scores of `metrics.scores` for train, val and test, from counts over the
    whole epoch. Validation and test judge every image at its mask's own size and weigh it by its valid
    pixels, so their numbers do not depend on the batch size.

    Among several processes each has a share of the batch, and the loss is that of the whole batch, however it
    is divided (`losses/functional.py`).

    `seed`, the step and the process give the random numbers of each step: a resumed run draws what an unbroken
    one would.
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
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.classes = classes
        self.decision = Decision(classes.binary, threshold)
        self.train_tally = TrainingMetrics(len(classes), binary=classes.binary)
        self.val_tally = TrainingMetrics(len(classes), binary=classes.binary)
        self.test_tally = TrainingMetrics(len(classes), binary=classes.binary)
        self.optimizer = optimizer
        self.schedulers = schedulers
        self._aux_weight = aux_weight
        self._describe = describe
        self._seed = seed
        self._validated = False

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Raw pixels 0..255 -> logits (B, K, H, W) at the input's size."""
        logits: Tensor = self.model(image_BCHW)
        return logits

    def configure_model(self) -> None:
        """Cuts the model up between the processes where the trainer's strategy says so (`trainer=fsdp`)."""
        if self.device_mesh is not None:
            shard(self.model, self.device_mesh)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """The loss of one batch, with the auxiliary head's share."""
        mask_BHW = batch["mask"]
        assert isinstance(mask_BHW, Tensor)
        logits_BKHW, auxiliary_BKHW = self.model.with_auxiliary(batch["image"])
        group = torch.distributed.group.WORLD  # None in a single process
        loss: Tensor = self.loss(logits_BKHW, mask_BHW, group)
        self._count(self.train_tally, loss, logits_BKHW, mask_BHW)
        if auxiliary_BKHW is not None:
            loss = loss + self._aux_weight * self.loss(auxiliary_BKHW, mask_BHW, group)
        self.log("loss", loss.detach(), prog_bar=True, logger=False)
        return loss

    def on_train_start(self) -> None:
        """A resumed optimizer may have been that of other processes, with another order of memory."""
        for optimizer in self.trainer.optimizers:
            match_memory_format(optimizer)

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        """Random numbers of this step's own."""
        place = (self._seed, self.trainer.fit_loop.total_batch_idx, self.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Counts one batch of the validation split."""
        self._judge(self.val_tally, batch)

    def test_step(self, batch: Batch, batch_index: int) -> None:
        """Counts one batch of the test split."""
        self._judge(self.test_tally, batch)

    def _judge(self, tally: TrainingMetrics, batch: Batch) -> None:
        for logits_KHW, mask_HW in zip(self(batch["image"]), batch["mask"], strict=True):
            logits_BKHW = resize(logits_KHW[None], (mask_HW.shape[0], mask_HW.shape[1]))
            self._count(tally, self.loss(logits_BKHW, mask_HW[None]), logits_BKHW, mask_HW[None])

    @torch.no_grad()
    def _count(self, tally: TrainingMetrics, loss: Tensor, logits_BKHW: Tensor, mask_BHW: Tensor) -> None:
        tally.update(loss.detach(), self.decision.labels(logits_BKHW), mask_BHW)

    def on_train_epoch_start(self) -> None:
        """Fresh counts."""
        self.train_tally.reset()

    def on_validation_epoch_start(self) -> None:
        """Fresh counts, and the same running statistics in all processes: rank zero's, which are kept."""
        self.val_tally.reset()
        if self.trainer.world_size > 1:
            for buffer in self.model.buffers():
                torch.distributed.broadcast(buffer, 0)

    def on_test_epoch_start(self) -> None:
        """Fresh counts."""
        self.test_tally.reset()

    def on_train_epoch_end(self) -> None:
        """Scores of the epoch's training batches, as they were seen: augmented, by a changing model."""
        self._log_scores("train", self.train_tally)
        self._step_plateau()

    def _step_plateau(self) -> None:
        # Lightning would do it after the checkpoint is written, and a resumed run would miss the epoch.
        validated, self._validated = self._validated, False
        for schedule in self.trainer.lr_scheduler_configs:
            if isinstance(schedule.scheduler, ReduceLROnPlateau) and validated:
                schedule.scheduler.step(float(self.trainer.callback_metrics[str(schedule.monitor)]))

    def on_validation_epoch_end(self) -> None:
        """Scores of the validation split."""
        self._log_scores("val", self.val_tally)
        self._validated = True

    def on_test_epoch_end(self) -> None:
        """Scores of the test split."""
        self._log_scores("test", self.test_tally)

    def _log_scores(self, split: str, tally: TrainingMetrics) -> None:
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
            if "monitor" in schedule:  # `_step_plateau` does it
                schedule["frequency"] = sys.maxsize
        return [optimizer], schedules

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what is needed to use the model without this run's configuration, and the epoch's counts so far."""
        checkpoint["segmentation"] = self._describe()
        reduce = self.trainer.strategy.reduce
        checkpoint["train_tally"] = {
            name: reduce(count.clone(), reduce_op="sum").cpu()
            for name, count in self.train_tally.counts().items()
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes up the counts of an epoch that was cut off: the first process has them all."""
        self.train_tally.take_up(checkpoint["train_tally"] if self.global_rank == 0 else {})
