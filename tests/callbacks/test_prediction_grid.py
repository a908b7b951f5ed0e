"""The grid of predictions is drawn at the first validation, every so many epochs, and at the last."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import composed
from pytorch_lightning import Trainer

from segmentation.build import build_data, build_task
from segmentation.callbacks.prediction_grid import PredictionGrid
from segmentation.config import read_training_settings
from segmentation.data import open_dataset


class Recorded(PredictionGrid):
    """Notes the epochs of its drawings instead of predicting."""

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, **options)
        self.epochs: list[int] = []

    def _indices(self, data: object) -> list[int]:
        assert self._drawn is not None
        self.epochs.append(self._drawn)
        return []


@pytest.fixture(autouse=True)
def no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = SimpleNamespace(save=lambda path: None)
    monkeypatch.setattr("segmentation.callbacks.prediction_grid.side_by_side", lambda *_: picture)


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
    settings = read_training_settings(
        composed(
            *(
                "dataset.size=48",
                "data.size=[48,48]",
                "data.batch_size=1",
                "dataset.train=1",
                "dataset.val=1",
            ),
            *("backbone=mobilenetv3_small", "head=lraspp", "precision=32-true", "scheduler=constant"),
        )
    )
    dataset = open_dataset(3, **settings.dataset)
    grid = Recorded(tmp_path, images=2, every_n_epochs=every)
    trainer = Trainer(
        max_epochs=epochs,
        check_val_every_n_epoch=interval,
        callbacks=[grid],
        logger=False,
        accelerator="cpu",
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path,
    )
    trainer.fit(build_task(settings, dataset), datamodule=build_data(settings, dataset))
    assert grid.epochs == expected


def test_a_resumed_run_keeps_the_rhythm(tmp_path: Path) -> None:
    grid = PredictionGrid(tmp_path, images=2, every_n_epochs=5)
    grid.load_state_dict({"drawn": 7})
    due = [
        epoch
        for epoch in range(8, 14)
        if grid._is_due(SimpleNamespace(current_epoch=epoch, check_val_every_n_epoch=1, max_epochs=100))
    ]
    assert due == [12, 13]
