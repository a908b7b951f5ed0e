"""Pictures of predictions: in TensorBoard every so many epochs, in the run folder of what was scored."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import composed
from PIL import Image
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import TensorBoardLogger

from segmentation.build import build_data, build_task
from segmentation.callbacks.prediction_grid import PredictionGrid
from segmentation.config import read_training_settings
from segmentation.data import open_dataset
from segmentation.task import SegmentationTask
from segmentation.types import Classes


class Recorded(PredictionGrid):
    """Notes the epochs of its drawings instead of predicting."""

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, **options)
        self.epochs: list[int] = []

    def _picture(self, trainer: Trainer, *given: object) -> None:
        self.epochs.append(trainer.current_epoch)


@pytest.mark.parametrize(
    ("interval", "every", "epochs", "expected"),
    [
        (1, 5, 8, [0, 5, 7]),
        (5, 5, 12, [4, 9]),
        (5, 1, 12, [4, 9]),
        (2, 5, 12, [1, 7, 11]),
        (3, 100, 7, [2, 5]),
    ],
)
def test_drawn_by_epochs_whatever_the_validation_interval(
    tmp_path: Path, interval: int, every: int, epochs: int, expected: list[int]
) -> None:
    grid = Recorded(tmp_path, images=2, every_n_epochs=every)
    fitted(grid, tmp_path, max_epochs=epochs, check_val_every_n_epoch=interval)
    assert grid.epochs == expected


def fitted(grid: PredictionGrid, folder: Path, **options: Any) -> tuple[Trainer, SegmentationTask]:
    """A trainer with the callback and TensorBoard, and its task, after the training."""
    settings = read_training_settings(
        composed(
            *("dataset.size=48", "data.size=[48,48]", "data.batch_size=1"),
            *("dataset.train=1", "dataset.val=1", "dataset.test=9"),
            *("backbone=timm", "backbone.name=test_resnet", "head=lraspp"),
            *("precision=32-true", "scheduler=constant"),
        )
    )
    dataset = open_dataset(3, **settings.dataset)
    trainer = Trainer(
        **options,
        callbacks=[grid],
        logger=TensorBoardLogger(folder),
        accelerator="cpu",
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
    )
    task = build_task(settings, dataset)
    trainer.fit(task, datamodule=build_data(settings, dataset))
    return trainer, task


def test_the_run_folder_gets_the_scored_images_of_the_scored_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[Any, ...]] = []

    def draw(rows: Any, classes: Classes, *, captions: list[str], split: str) -> Image.Image:
        drawn.append((rows, captions, split))
        return Image.new("RGB", (1, 1))

    monkeypatch.setattr("segmentation.callbacks.prediction_grid.side_by_side", draw)
    trainer, task = fitted(PredictionGrid(tmp_path, images=3, every_n_epochs=1), tmp_path, max_epochs=1)
    assert [split for _, _, split in drawn] == ["val"] and not (tmp_path / "predictions.png").exists()
    for weights in task.model.parameters():
        weights.data.zero_()  # as loading best.ckpt replaces the last epoch's weights
    trainer.test(task, datamodule=trainer.datamodule, verbose=False)  # type: ignore[attr-defined]
    (rows, captions, split) = drawn[-1]
    samples = trainer.datamodule.dataset.test  # type: ignore[attr-defined]
    assert split == "test" and (tmp_path / "predictions.png").exists()
    for (image, truth, prediction), caption, index in zip(rows, captions, (0, 4, 8), strict=True):
        assert (image == samples[index]["image"]).all() and (truth == samples[index]["mask"]).all()
        assert not prediction.any()
        iou = (truth == 0).mean()
        present = len(set(truth.flatten().tolist()) - {255} | {0})
        assert caption == f"{samples.names[index]}   mIoU {iou / present:.4f}"


def test_a_resumed_run_keeps_the_rhythm(tmp_path: Path) -> None:
    grid = PredictionGrid(tmp_path, images=2, every_n_epochs=5)
    grid.load_state_dict({"drawn": 7})
    due = [
        epoch
        for epoch in range(8, 14)
        if grid._is_due(SimpleNamespace(current_epoch=epoch, check_val_every_n_epoch=1, max_epochs=100))
    ]
    assert due == [12, 13]
