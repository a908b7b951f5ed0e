"""A folder as it lies -> trained, evaluated with saved masks, and predicted for, in this process."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import composed
from made_annotations import coco_splits, cvat, labelme, labelstudio, regions, yolo
from made_data import MAKERS, masks_in
from PIL import Image

import segmentation
from segmentation.cli import compose
from segmentation.cli.auto import with_recognised
from segmentation.config import read_evaluation_settings
from segmentation.data import open_dataset
from segmentation.evaluate import evaluate
from segmentation.train import train

SMALL = (
    *(
        "backbone=mobilenetv3_small",
        "head=lraspp",
        "data.size=[32,32]",
        "data.batch_size=2",
        "data.workers=0",
    ),
    *("augmentation=none", "precision=32-true", "trainer.max_epochs=1", "trainer.accelerator=cpu"),
    *("callbacks.grid.images=0", "logger=none"),
)
# Names with folders, two classes with a threshold, ignored pixels, colours: after reading, the others are like these.
LAYOUTS: dict[str, Callable[[Path], object]] = {
    "nested": masks_in("{n}/Imgs/a{n}.jpg", "{n}/Imgs/a{n}.png", "binary"),
    **{name: MAKERS[name] for name in ("pets", "class_dict", "csv")},
    **{make.__name__: make for make in (coco_splits, cvat, labelme, labelstudio, regions, yolo)},
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_folder_is_trained_on_evaluated_and_predicted(name: str, tmp_path: Path) -> None:
    root, run = tmp_path / "data", tmp_path / "run"
    root.mkdir(), run.mkdir()
    LAYOUTS[name](root)
    typed = [f"dataset.root={root}", *(["dataset=csv"] if name == "csv" else []), *SMALL]
    config = composed(*with_recognised(typed, "train")[0])
    dataset = open_dataset(**config["dataset"])
    train(config, dataset, run)
    tested = json.loads((run / "report.json").read_text())["metrics"]["test/miou"]
    best = run / "checkpoints" / "best.ckpt"
    options = [f"checkpoint={best}", "save=mask", "workers=0", "accelerator=cpu", "precision=32"]
    score = evaluate(read_evaluation_settings(compose("evaluate", *options)), tmp_path / "judged")
    assert score == pytest.approx(tested, abs=1e-6, nan_ok=True)
    predictor = segmentation.load(best, device="cpu", precision="32-true")
    sample = dataset.test[0]
    saved = np.array(Image.open(tmp_path / "judged" / "masks" / f"{sample['name']}.png"))
    assert saved.shape == sample["mask"].shape
    assert np.array_equal(
        predictor.predict(sample["image"]).mask, saved > 0 if dataset.classes.binary else saved
    )
