"""Training on windows of images that are larger, and their validation by the tiles with which they are predicted."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from conftest import composed
from made_data import save

from segmentation.cli import compose
from segmentation.config import read_evaluation_settings
from segmentation.data import open_dataset
from segmentation.evaluation import evaluate
from segmentation.inference import load
from segmentation.metrics import ConfusionMatrix, image_counts, scores
from segmentation.planner import complete
from segmentation.training import train

pytestmark = pytest.mark.usefixtures("no_figures")

SMALL = [
    *(
        "backbone=timm",
        "backbone.name=test_resnet",  # of a few layers
        "head=fcn",
        "data.size=[32,32]",
        "data.resize=false",
        "data.batch_size=8",
    ),
    *(
        "data.workers=0",
        "precision=32-true",
        "trainer.max_epochs=1",
        "callbacks.grid.images=0",
        "logger=none",
    ),
    *("optimizer.lr=0.01", "scheduler=constant", "augmentation=none"),
]


def draw(root: Path, values: tuple[int, ...], count: int = 6) -> None:
    """Images of 90 x 150 pixels with a bright disc of each value."""
    random = np.random.default_rng(0)
    for number in range(count):
        mask = np.zeros((90, 150), np.uint8)
        for value in values:
            centre = (int(random.integers(20, 130)), int(random.integers(20, 70)))
            cv2.circle(mask, centre, 12, value, -1)
        noise = random.integers(0, 60, (90, 150, 3))
        save(root / "images" / f"{number}.png", (noise + 150 * (mask[..., None] > 0)).astype(np.uint8))
        save(root / "masks" / f"{number}.png", mask)


@pytest.mark.parametrize(
    ("options", "values"),
    [
        (["dataset=binary", "loss=bce_dice"], (255,)),
        (["dataset=folder", "dataset.names=[ground,disc,dot]", "data.sampler=balanced"], (1, 2)),
        (["dataset=folder", "dataset.names=[ground,disc,dot]", "loss=bce_dice"], (1, 2)),
    ],
)
def test_scores_of_tiles_are_those_of_predicted_masks(
    options: list[str], values: tuple[int, ...], tmp_path: Path
) -> None:
    draw(tmp_path / "data", values)
    config: Any = composed(*SMALL, *options, f"dataset.root={tmp_path / 'data'}")
    dataset = open_dataset(**config["dataset"])
    config, dataset = complete(config, dataset)
    (tmp_path / "run").mkdir()
    train(config, dataset, tmp_path / "run")
    best = tmp_path / "run" / "checkpoints" / "best.ckpt"
    predictor = load(best)
    assert predictor.trained.tile == 64
    counts = ConfusionMatrix(len(dataset.classes))
    for index in range(len(dataset.test)):
        sample = dataset.test[index]
        found = predictor.predict(sample["image"])
        assert np.array_equal(found.mask, predictor.predict(sample["image"], tile=64).mask)
        counts.update(
            image_counts(
                torch.from_numpy(found.mask)[None],
                torch.from_numpy(sample["mask"])[None],
                len(dataset.classes),
            )
        )
    expected = scores(counts.compute(), binary=dataset.classes.binary)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    evaluated = tmp_path / "evaluated"
    evaluate(read_evaluation_settings(compose("evaluate", f"checkpoint={best}")), evaluated)
    again = json.loads((evaluated / "report.json").read_text())
    for each in (report, again):
        assert "by tiles of 64 pixels" in each["protocol"]["input"]
        assert each["metrics"]["test/miou"] == pytest.approx(expected["miou"], abs=1e-6)
        assert each["metrics"]["test/pixel_accuracy"] == pytest.approx(expected["pixel_accuracy"], abs=1e-6)
    assert 0 < expected["miou"] < 1
    assert np.isfinite(report["metrics"]["test/loss"])
