"""Pictures of predictions: for the loggers while the model is trained, and in the run folder of what was scored."""

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer

from segmentation.callbacks.loggers import SHOWING, log_picture
from segmentation.data.datamodule import SegmentationData
from segmentation.data.files import evenly_spaced
from segmentation.metrics import image_counts, image_scores
from segmentation.report.report import number
from segmentation.task import SegmentationTask
from segmentation.types import Sample
from segmentation.visualization import side_by_side
from segmentation.writing import replacing


class PredictionGrid(Callback):
    """image | truth | prediction of `images` images, evenly spread over their split, with the IoU of each.

    `predictions.png` is drawn at the test, of the images and by the model that were scored. Loggers get the
    same `images` validation images at the first validation, at the last, and between them at the first one that is
    `every_n_epochs` or more after the previous drawing.
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
        drawn = state_dict["drawn"]
        self._drawn = None if drawn is None else int(drawn)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws for the loggers where a drawing is due."""
        boards = [logger for logger in trainer.loggers if isinstance(logger, SHOWING)]
        if trainer.sanity_checking or not boards or not self._is_due(trainer):
            return
        self._drawn = trainer.current_epoch
        if (picture := self._picture(trainer, pl_module, "val")) is not None:
            for board in boards:
                log_picture(board, "val/predictions", picture, trainer.global_step)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws the run folder's picture."""
        if (picture := self._picture(trainer, pl_module, "test")) is not None:
            with replacing(self._path, "wb") as file:
                picture.save(file, "PNG")

    def _is_due(self, trainer: Trainer) -> bool:
        epoch, interval = trainer.current_epoch, trainer.check_val_every_n_epoch or 1
        is_last = trainer.max_epochs is not None and epoch + interval >= trainer.max_epochs > 0
        return is_last or self._drawn is None or epoch - self._drawn >= self._every

    def _picture(self, trainer: Trainer, task: LightningModule, split: str) -> Image.Image | None:
        """The picture in the first process; None in the others, which predict because each may hold a part of the
        weights.
        """
        assert isinstance(task, SegmentationTask)
        data: SegmentationData = trainer.datamodule  # type: ignore[attr-defined]
        samples = data.dataset.splits()[split]
        rows, captions = [], []
        for index in evenly_spaced(len(samples), self._images):
            sample = samples[index]
            with trainer.precision_plugin.forward_context():  # as the scores were made
                labels_1HW = _labels(task, data, sample)
            counts_1KK = image_counts(labels_1HW, torch.from_numpy(sample["mask"])[None], len(task.classes))
            scores = image_scores(counts_1KK, binary=task.classes.binary)[0]
            name, score = ("IoU", scores["iou"]) if task.classes.binary else ("mIoU", scores["miou"])
            captions.append(f"{sample['name']}   {name} {number(score)}")
            rows.append((sample["image"], sample["mask"], labels_1HW[0].numpy()))
        if not trainer.is_global_zero:
            return None
        return side_by_side(rows, task.classes, captions=captions, split=split)


def _labels(task: SegmentationTask, data: SegmentationData, sample: Sample) -> torch.Tensor:
    """uint8 (1, H, W) at the size of the mask, on the CPU."""
    image_CHW = torch.from_numpy(data.evaluation(sample, 0)["image"]).permute(2, 0, 1)
    height, width = sample["mask"].shape
    return task.labels(image_CHW, (height, width))[None].cpu()
