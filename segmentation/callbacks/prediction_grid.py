"""Pictures of predictions for TensorBoard and the run folder."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger

from segmentation.data.datamodule import SegmentationData
from segmentation.models import resize
from segmentation.task import SegmentationTask
from segmentation.visualization import side_by_side


class PredictionGrid(Callback):
    """image | truth | prediction of the same `images` validation images, evenly spread over the split.

    Drawn at the first validation, at the last, and between them at the first validation that is `every_n_epochs`
    or more after the previous drawing: into TensorBoard, and the newest into `predictions.png`.
    """

    def __init__(self, folder: Path, *, images: int, every_n_epochs: int) -> None:
        self._path = folder / "predictions.png"
        self._images = images
        self._every = every_n_epochs
        self._drawn: int | None = None  # the epoch of the last drawing

    def state_dict(self) -> dict[str, Any]:
        """A resumed run keeps the rhythm."""
        return {"drawn": self._drawn}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The epoch of the last drawing."""
        self._drawn = state_dict["drawn"]

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Predicts where a drawing is due; the first process draws.

        All processes predict, because each may hold a part of the weights.
        """
        if trainer.sanity_checking or not self._is_due(trainer):
            return
        self._drawn = trainer.current_epoch
        assert isinstance(pl_module, SegmentationTask)
        data = trainer.datamodule  # type: ignore[attr-defined]
        rows = [self._row(pl_module, data, index) for index in self._indices(data)]
        if not trainer.is_global_zero:
            return
        picture = side_by_side(rows, pl_module.classes)
        picture.save(self._path)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(
                    "val/predictions", np.asarray(picture), trainer.global_step, dataformats="HWC"
                )

    def _is_due(self, trainer: Trainer) -> bool:
        epoch, interval = trainer.current_epoch, trainer.check_val_every_n_epoch or 1
        is_last = trainer.max_epochs is not None and epoch + interval >= trainer.max_epochs > 0
        return is_last or self._drawn is None or epoch - self._drawn >= self._every

    def _indices(self, data: SegmentationData) -> list[int]:
        length = len(data.dataset.val)
        return sorted({round(index) for index in np.linspace(0, length - 1, min(self._images, length))})

    @torch.no_grad()
    def _row(
        self, task: SegmentationTask, data: SegmentationData, index: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        truth = data.dataset.val[index]
        image = torch.from_numpy(data.evaluation(truth, 0)["image"]).permute(2, 0, 1)[None]
        height, width = truth["mask"].shape
        logits_BKHW = resize(task(image.to(task.device)), (height, width))
        return truth["image"], truth["mask"], task.decision.labels(logits_BKHW)[0].cpu().numpy()
