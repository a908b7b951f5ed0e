"""The LightningModule: training, validation and test of a `Segmenter`."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor, nn

from segmentation.metrics import Temperature, TrainingMetrics, ratios
from segmentation.models import Decision, Segmenter, resize, shard
from segmentation.optim import Curve, Plateau, match_memory_format
from segmentation.tiling import Tiling, Write, block
from segmentation.types import Batch, Classes, is_ignored

OptimizerFactory = Callable[[nn.Module], torch.optim.Optimizer]
SchedulerFactory = Callable[..., Curve]


class SegmentationTask(LightningModule):
    """Trains and evaluates a `Segmenter`.

    `loss` maps (logits (B, K, H, W), mask (B, H, W), process group or None) to a scalar; the auxiliary head, where
    there is one, adds `aux_weight` times its own. `optimizer` gets the model, `scheduler` the optimizer with
    `total_steps`, `steps_per_epoch` and `epochs`: both are called late, because only the trainer knows them.
    `describe` returns the plain data that make a checkpoint self-contained. `one_vs_rest` is for `Decision`.

    Logs `{split}/loss` and the scores of `metrics.scores` for train, val and test, from counts over the
    whole epoch. Validation and test score every image at the size of its mask and weight it by its valid
    pixels, so that the numbers do not depend on the batch size. With `tile`, images larger than that are predicted by
    tiles of that side which blend into each other, as by `Predictor`; then the loss is that of each finished block.

    With several processes each gets a share of the batch; the loss is that of the whole batch.

    Random numbers of a step depend on `seed`, the step and the process: a resumed run draws the same ones as an
    uninterrupted run.
    """

    def __init__(
        self,
        model: Segmenter,
        *,
        loss: nn.Module,
        classes: Classes,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory,
        aux_weight: float = 0.4,
        threshold: float = 0.5,
        one_vs_rest: bool = False,
        tile: int | None = None,
        describe: Callable[[], dict[str, Any]] = dict,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.classes = classes
        self.decision = Decision(classes.binary, threshold, one_vs_rest=one_vs_rest)
        self.train_metrics = TrainingMetrics(len(classes), binary=classes.binary)
        self.val_metrics = TrainingMetrics(len(classes), binary=classes.binary)
        self.test_metrics = TrainingMetrics(len(classes), binary=classes.binary)
        self.optimizer = optimizer
        self.scheduler = scheduler
        self._aux_weight = aux_weight
        self._tile = tile
        self._describe = describe
        self._seed = seed
        self._fit: Temperature | None = None
        self._images = torch.zeros(())  # whose gradients have been added, as far as they are valid

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Raw pixels 0..255 -> logits (B, K, H, W) at the input's size."""
        logits: Tensor = self.model(image_BCHW)
        return logits

    def configure_model(self) -> None:
        """Shards the model over the processes with `trainer=fsdp`."""
        if self.device_mesh is not None:
            shard(self.model, self.device_mesh)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """The loss of one batch, including the auxiliary head's."""
        mask_BHW = batch["mask"]
        assert isinstance(mask_BHW, Tensor)
        logits_BKHW, auxiliary_BKHW = self.model.with_auxiliary(batch["image"])
        group = torch.distributed.group.WORLD  # None in a single process
        loss: Tensor = self.loss(logits_BKHW, mask_BHW, group)
        self._count(self.train_metrics, loss, logits_BKHW, mask_BHW)
        if auxiliary_BKHW is not None:
            loss = loss + self._aux_weight * self.loss(auxiliary_BKHW, mask_BHW, group)
        self.log("loss", loss.detach(), prog_bar=True, logger=False)
        return self._weighted(loss, mask_BHW, batch_index)

    def _weighted(self, loss: Tensor, mask_BHW: Tensor, batch_index: int) -> Tensor:
        """The loss by which batches whose gradients are added count as one: each by its valid pixels.

        Lightning divides by the number of batches that should be added, but an epoch may end before.
        """
        batches = self.trainer.accumulate_grad_batches
        if batches == 1:
            return loss
        images = (~is_ignored(mask_BHW)).sum() / mask_BHW[0].numel()
        if (group := torch.distributed.group.WORLD) is not None:
            torch.distributed.all_reduce(images, group=group)
        self._images = images + (self._images if batch_index % batches else 0)
        return loss * images * batches

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Turn the sum of added gradients into their mean, before it is clipped."""
        if self.trainer.accumulate_grad_batches > 1:
            for parameter in self.model.parameters():
                if parameter.grad is not None:
                    parameter.grad /= self._images.clamp_min(1e-6)

    def on_train_start(self) -> None:
        """Adapt a resumed optimizer to this run's memory format, and to its learning rate at the step reached."""
        for optimizer in self.trainer.optimizers:
            match_memory_format(optimizer)
        self._curve().go_to(self.trainer.global_step)

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        """Seed the random numbers of this step."""
        place = (self._seed, self.trainer.fit_loop.total_batch_idx, self.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Count one batch of the validation split."""
        self._evaluate(self.val_metrics, batch)

    def test_step(self, batch: Batch, batch_index: int) -> None:
        """Count one batch of the test split."""
        self._evaluate(self.test_metrics, batch)

    def calibrate(self, trainer: Trainer, batches: Any) -> None:
        """Give the decision the temperature that suits these batches; the labels stay as they are.

        Raises `UserError` where none of their pixels is labelled.
        """
        self._fit = Temperature(independent=self.decision.independent)
        trainer.test(self, dataloaders=batches, verbose=False)
        fit, self._fit = self._fit, None
        self.decision = self.decision.at_temperature(fit.compute())

    def _evaluate(self, metrics: TrainingMetrics, batch: Batch) -> None:
        if self._goes_by_tiles(batch["image"][0]):
            for image_CHW, mask_HW in zip(batch["image"], batch["mask"], strict=True):
                self._evaluate_by_tiles(metrics, image_CHW, mask_HW)
            return
        for logits_KHW, mask_HW in zip(self(batch["image"]), batch["mask"], strict=True):
            logits_BKHW = resize(logits_KHW[None], (mask_HW.shape[0], mask_HW.shape[1]))
            self._count(metrics, self.loss(logits_BKHW, mask_HW[None]), logits_BKHW, mask_HW[None])

    def _goes_by_tiles(self, image_CHW: Tensor) -> bool:
        return self._tile is not None and max(image_CHW.shape[1:]) > self._tile

    def _evaluate_by_tiles(self, metrics: TrainingMetrics, image_CHW: Tensor, mask_HW: Tensor) -> None:
        """Counts an image block by block, so that its probabilities are never in memory as a whole."""

        def count(top: int, left: int, found_KHW: np.ndarray) -> None:
            probabilities_BKHW = torch.from_numpy(np.ascontiguousarray(found_KHW))[None].to(self.device)
            mask_BHW = mask_HW[block(top, left, found_KHW)][None]
            loss = self.loss(self.decision.logits(probabilities_BKHW), mask_BHW)
            metrics.update(loss, self.decision.most_probable(probabilities_BKHW), mask_BHW)
            if self._fit is not None:
                self._fit.update(self.decision.logits(probabilities_BKHW), mask_BHW, top, left)

        self._predict_by_tiles(image_CHW, count)

    def _predict_by_tiles(self, image_CHW: Tensor, write: Write) -> None:
        """Calls `write` with the probabilities of each finished block, as `Predictor` makes them."""
        assert self._tile is not None
        pixels_HWC = image_CHW.permute(1, 2, 0).cpu().numpy()

        def predict(windows: list[np.ndarray]) -> np.ndarray:
            images_BCHW = torch.from_numpy(np.stack(windows)).permute(0, 3, 1, 2).to(self.device)
            found_BKHW: np.ndarray = self.decision.probabilities(self(images_BCHW)).float().cpu().numpy()
            return found_BKHW

        height, width, _ = pixels_HWC.shape
        tiling = Tiling(predict=predict, tile=self._tile, overlap=self._tile // 8)
        tiling.run(lambda rows, columns: pixels_HWC[rows, columns], write, size=(height, width))

    @torch.no_grad()
    def labels(self, image_CHW: Tensor, size: tuple[int, int]) -> Tensor:
        """uint8 (H, W) of `size`: the labels of an image as validation and test find them, for pictures."""
        if not self._goes_by_tiles(image_CHW):
            logits_1KHW = resize(self(image_CHW[None].to(self.device)), size)
            return self.decision.labels(logits_1KHW)[0]
        labels_HW = torch.empty(size, dtype=torch.uint8)

        def keep(top: int, left: int, found_KHW: np.ndarray) -> None:
            found_1KHW = torch.from_numpy(np.ascontiguousarray(found_KHW))[None]
            labels_HW[block(top, left, found_KHW)] = self.decision.most_probable(found_1KHW)[0]

        self._predict_by_tiles(image_CHW, keep)
        return labels_HW

    @torch.no_grad()
    def _count(self, metrics: TrainingMetrics, loss: Tensor, logits_BKHW: Tensor, mask_BHW: Tensor) -> None:
        metrics.update(loss.detach(), self.decision.labels(logits_BKHW), mask_BHW)
        if self._fit is not None:
            self._fit.update(logits_BKHW, mask_BHW)

    def on_train_epoch_start(self) -> None:
        """Reset the counts."""
        self.train_metrics.reset()

    def on_validation_epoch_start(self) -> None:
        """Reset the counts, and give all processes the running statistics of rank zero, which are saved."""
        self.val_metrics.reset()
        if self.trainer.world_size > 1:
            for buffer in self.model.buffers():
                torch.distributed.broadcast(buffer, 0)

    def on_test_epoch_start(self) -> None:
        """Reset the counts."""
        self.test_metrics.reset()

    def on_train_epoch_end(self) -> None:
        """Log the scores of the training batches: of augmented images, while the model changes."""
        self._log_scores("train", self.train_metrics)
        self._step_plateau()

    def _step_plateau(self) -> None:
        # Before the checkpoint is written, or a resumed run would miss this epoch.
        if isinstance(curve := self._curve(), Plateau) and curve.latest is not None:
            curve.end_epoch(curve.latest)

    def _curve(self) -> Curve:
        curve = self.trainer.lr_scheduler_configs[0].scheduler
        assert isinstance(curve, Curve)
        return curve

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the validation split, and the IoU of each class."""
        loss = self._log_scores("val", self.val_metrics)["loss"]
        if self.trainer.state.fn == "fit" and isinstance(curve := self._curve(), Plateau):
            curve.latest = loss
        iou_K = ratios(self.val_metrics.confusion.compute().double())["iou"]
        for name, value in zip(self.classes.names, iou_K.tolist(), strict=True):
            self.log(f"val_iou/{name}", value)

    def on_test_epoch_end(self) -> None:
        """Log the scores of the test split, or fit the temperature while the processes are still connected."""
        if self._fit is None:
            self._log_scores("test", self.test_metrics)
        else:
            self._fit.compute()  # keeps the value for the next call

    def _log_scores(self, split: str, metrics: TrainingMetrics) -> dict[str, float]:
        # `History` receives what is logged and the report reads it there, as float32 like all that Lightning logs.
        scores = metrics.scores()
        for name, value in scores.items():
            self.log(f"{split}/{name}", value, prog_bar=name == "miou")
        return scores

    def configure_optimizers(self) -> Any:
        """The optimizer, and its schedule over the run's real number of optimizer steps."""
        optimizer, trainer = self.optimizer(self.model), self.trainer
        trainer.fit_loop.setup_data()  # before it the number of batches is not known
        curve = self.scheduler(
            optimizer,
            total_steps=trainer.estimated_stepping_batches,
            steps_per_epoch=math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches),
            epochs=trainer.max_epochs,
        )
        return [optimizer], [{"scheduler": curve, "interval": "step"}]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what is needed to use the model without this run's config, the scores, and the counts of the epoch."""
        checkpoint["segmentation"] = self._describe()
        # Of the latest validation, the one that chose a best.ckpt: metrics.csv has the last one of each epoch.
        checkpoint["val_scores"] = {
            name: float(value)
            for name, value in self.trainer.callback_metrics.items()
            if name.startswith("val/")
        }
        reduce = self.trainer.strategy.reduce
        checkpoint["train_tally"] = {
            name: reduce(count.clone(), reduce_op="sum").cpu()
            for name, count in self.train_metrics.counts().items()
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue the counts of an interrupted epoch: rank zero gets them all."""
        self.train_metrics.resume(checkpoint["train_tally"] if self.global_rank == 0 else {})
