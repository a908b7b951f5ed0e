"""A folder as it lies -> trained, evaluated with saved masks, and predicted for, in this process."""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from conftest import Config, composed
from made_annotations import coco_splits, cvat, labelme, labelstudio, regions, yolo
from made_data import MAKERS, devkit, masks_in
from PIL import Image

import segmentation
from segmentation.cli import compose
from segmentation.config import read_evaluation_settings
from segmentation.data import LAYOUTS, open_dataset, recognised_options
from segmentation.evaluation import evaluate
from segmentation.training import train

SMALL = (
    *(
        "backbone=timm",
        "backbone.name=test_resnet",  # of a few layers
        "head=lraspp",
        "data.size=[32,32]",
        "data.batch_size=2",
        "data.workers=0",
    ),
    *("augmentation=none", "precision=32-true", "trainer.max_epochs=1", "trainer.accelerator=cpu"),
    *("callbacks.grid.images=0", "logger=none"),
)
FOLDERS: dict[str, Callable[[Path], object]] = {
    **MAKERS,
    **{make.__name__: make for make in (cvat, labelme, labelstudio, regions, yolo)},
    "binary": masks_in("images/{n}.jpg", "masks/{n}.png", "binary"),
    "coco": coco_splits,
    "folder": masks_in("{split}/images/{n}.jpg", "{split}/masks/{n}.png"),
    "pairs": masks_in("{n}/Imgs/a{n}.jpg", "{n}/Imgs/a{n}.png", "binary"),  # names with folders in them
    "voc": devkit,
}


@pytest.fixture(scope="module")
def training() -> Config:
    return composed(*SMALL)


@pytest.fixture(scope="module")
def evaluation() -> Config:
    typed = ("checkpoint=PATH", "save=mask", "workers=0", "accelerator=cpu", "precision=32")
    return compose("evaluate", *typed)


def test_every_layout_has_a_folder() -> None:
    assert FOLDERS.keys() == LAYOUTS.keys() - {"camvid"}  # which is a folder with known classes


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_is_trained_on_evaluated_and_predicted(
    name: str,
    training: Config,
    evaluation: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_figures: None,
) -> None:
    # The page has tests of its own, too.
    monkeypatch.setattr("segmentation.evaluation.run.write_evaluation", lambda *_: None)
    root, run = tmp_path / "data", tmp_path / "run"
    root.mkdir(), run.mkdir()
    FOLDERS[name](root)
    options, _ = recognised_options({"root": str(root)})
    assert options["name"] == name
    dataset = open_dataset(**options)
    train({**deepcopy(training), "dataset": options}, dataset, run)
    tested = json.loads((run / "report.json").read_text())["metrics"]["test/miou"]
    best = run / "checkpoints" / "best.ckpt"
    settings = read_evaluation_settings({**evaluation, "checkpoint": str(best)})
    assert evaluate(settings, tmp_path / "judged") == pytest.approx(tested, abs=1e-6, nan_ok=True)
    predictor = segmentation.load(best, device="cpu", precision="32-true")
    sample = dataset.test[0]
    saved = np.array(Image.open(tmp_path / "judged" / "masks" / f"{sample['name']}.png"))
    assert saved.shape == sample["mask"].shape
    assert np.array_equal(
        predictor.predict(sample["image"]).mask, saved > 0 if dataset.classes.binary else saved
    )
