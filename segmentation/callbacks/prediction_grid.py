"""Pictures of what the model does, for TensorBoard and the run folder."""

from pathlib import Path

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger

from segmentation.data.datamodule import SegmentationData
from segmentation.models import resize
from segmentation.task import SegmentationTask
from segmentation.visualization import side_by_side


class PredictionGrid(Callback):
    """image | truth | prediction of the same `images` validation images, spread over the split.

    Drawn every `every_n_epochs` validations into TensorBoard, and the newest into `predictions.png`.
    """

    def __init__(self, folder: Path, *, images: int, every_n_epochs: int) -> None:
        self._path = folder / "predictions.png"
        self._images = images
        self._every = every_n_epochs

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Predicts in the epochs that are asked for, and draws on the first process.

        All of them predict: each may hold a part of the weights.
        """
        last = trainer.current_epoch + 1 == trainer.max_epochs
        due = last or trainer.current_epoch % self._every == 0
        if trainer.sanity_checking or not due:
            return
        assert isinstance(pl_module, SegmentationTask)
        data = trainer.datamodule  # type: ignore[attr-defined]
        rows = [self._row(pl_module, data, index) for index in self._indices(data)]
        if not trainer.is_global_zero:
            return
        page = side_by_side(rows, pl_module.classes)
        page.save(self._path)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(
                    "val/predictions", np.asarray(page), trainer.global_step, dataformats="HWC"
                )

    def _indices(self, data: SegmentationData) -> list[int]:
        length = len(data.source.val)
        return sorted({round(place) for place in np.linspace(0, length - 1, min(self._images, length))})

    @torch.no_grad()
    def _row(
        self, task: SegmentationTask, data: SegmentationData, index: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        truth = data.source.val[index]
        image = torch.from_numpy(data.evaluation(truth, 0)["image"]).permute(2, 0, 1)[None]
        height, width = truth["mask"].shape
        logits_BKHW = resize(task(image.to(task.device)), (height, width))
        return truth["image"], truth["mask"], task.decision.labels(logits_BKHW)[0].cpu().numpy()
