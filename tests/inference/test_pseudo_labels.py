"""Predictions as data to train on: which pixels keep their labels, and that a training takes the folder."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import CONF
from made_predictors import write_checkpoint
from PIL import Image
from scripts import BEGINS, run_script

import segmentation
from segmentation.data import open_dataset
from segmentation.errors import UserError
from segmentation.predict import predict


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shots")
    (folder / "sub").mkdir()
    for number in range(6):
        scene = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        name = f"sub/{number}.jpg" if number % 2 else f"{number}.png"
        Image.fromarray(scene).resize((64, 48)).save(folder / name)
    return folder


@pytest.fixture(scope="module", params=[False, True], ids=["classes", "binary"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(
        tmp_path_factory.mktemp("made") / "best.ckpt", binary=request.param, threshold=0.4
    )


def config(checkpoint: Path, given: Path, output: Path, **options: Any) -> dict[str, Any]:
    """What predict.py would make of its command line."""
    defaults = yaml.safe_load((CONF / "predict.yaml").read_text())
    own = {key: value for key, value in defaults.items() if key not in ("defaults", "hydra")}
    paths = {"checkpoint": str(checkpoint), "input": str(given), "output": str(output)}
    return {**own, "accelerator": "cpu", "precision": "32-true", **paths, **options}


@pytest.mark.parametrize("pseudo_labels", [0.55, "auto"])
def test_pixels_below_the_confidence_are_ignored(
    pseudo_labels: float | str, checkpoint: Path, shots: Path, tmp_path: Path
) -> None:
    assert predict(config(checkpoint, shots, tmp_path, pseudo_labels=pseudo_labels)) == 6
    predictor = segmentation.load(checkpoint, device="cpu", precision="32-true")
    binary = predictor.trained.classes.binary
    options: dict[str, Any] = {"name": "folder"}
    if binary:
        options = {"name": "binary", "ignore": 127, "threshold": 127}
    dataset = open_dataset(3, root=str(tmp_path), **options)
    samples = {
        sample["name"]: sample
        for part in dataset.splits().values()
        for sample in (part[i] for i in range(len(part)))
    }
    assert samples.keys() == {"0", "sub_1", "2", "sub_3", "4", "sub_5"}
    assert dataset.classes.binary == binary
    if not binary:
        assert dataset.classes == predictor.trained.classes
    found: dict[int, list[np.ndarray]] = {}
    for sample in samples.values():
        prediction = predictor.predict(sample["image"])
        shares = prediction.probabilities
        if binary:
            shares = np.concatenate([1 - shares, shares], axis=2)
        sure = np.take_along_axis(shares, prediction.mask[:, :, None].astype(int), axis=2)[:, :, 0]
        kept = sample["mask"] != 255
        assert (sample["mask"][kept] == prediction.mask[kept]).all()
        for label in np.unique(prediction.mask).tolist():
            here = prediction.mask == label
            found.setdefault(label, []).append(np.stack([sure[here], kept[here]]))
    for confidence, kept in (np.concatenate(parts, axis=1) for parts in found.values()):
        bound = 0.55 if pseudo_labels == 0.55 else min(0.9, float(np.median(confidence)))
        clear = abs(confidence - bound) > 1e-3
        assert ((confidence >= bound) == kept)[clear].all()
        assert pseudo_labels != "auto" or kept.mean() >= 0.45


def test_a_training_takes_the_folder(shots: Path, tmp_path: Path) -> None:
    checkpoint, data = write_checkpoint(tmp_path / "best.ckpt"), tmp_path / "pseudo"
    predict(config(checkpoint, shots, data, pseudo_labels=0.5, tile=32))
    done = run_script(
        *("train.py", "dataset=folder", f"dataset.root={data}", "backbone=mobilenetv3_small", "head=lraspp"),
        *("data.size=[32,32]", f"hydra.run.dir={tmp_path / 'run'}"),
        environment={"UNTIL_WORK": "1"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "images: " in done.stdout and BEGINS in done.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pseudo_labels": 0}, "pseudo_labels=0"),
        ({"pseudo_labels": "most"}, "pseudo_labels=most"),
        ({"save": ["mask"]}, "leave save out"),
        ({"existing": "skip"}, "leave existing out"),
        ({"output": "there"}, "exists already"),
    ],
)
def test_wrong_options(options: dict[str, Any], words: str, shots: Path, tmp_path: Path) -> None:
    (tmp_path / "there" / "masks").mkdir(parents=True)
    output = tmp_path / options.pop("output", "out")
    with pytest.raises(UserError, match=words):
        predict(config(tmp_path / "no.ckpt", shots, output, **{"pseudo_labels": 0.5, **options}))


def test_a_confidence_that_no_pixel_has(checkpoint: Path, shots: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No pixel reaches"):
        predict(config(checkpoint, shots, tmp_path / "out", pseudo_labels=1.0))
    assert not [*(tmp_path / "out").iterdir()]


def test_bands_that_the_data_could_not_say_are_refused(shots: Path, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "best.ckpt", dataset={"name": "geotiff", "bands": [3, 1, 2]})
    with pytest.raises(UserError, match=r"takes the bands \[3, 1, 2\]"):
        predict(config(checkpoint, shots, tmp_path / "out", pseudo_labels="auto"))


def test_two_pictures_of_one_name_are_refused(shots: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for ending in ("png", "jpg"):
        Image.new("RGB", (8, 8)).save(folder / f"a.{ending}")
    checkpoint = write_checkpoint(tmp_path / "best.ckpt")
    with pytest.raises(UserError, match="would share the name a"):
        predict(config(checkpoint, folder, tmp_path / "out", pseudo_labels="auto"))
