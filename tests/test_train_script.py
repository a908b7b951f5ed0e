"""train.py as a user runs it: what it leaves behind, that it goes on, and what it refuses."""

import csv
import json
import os
import pickle
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from scripts import Done, run_script

from segmentation.callbacks import draw_curves
from segmentation.checkpoint import load, read
from segmentation.data import open_dataset
from segmentation.errors import UserError
from segmentation.metrics import ConfusionMatrix, image_counts, scores

SMALL = [
    "backbone=mobilenetv3_small",
    "head=lraspp",
    "dataset.size=48",
    "dataset.train=10",
    "dataset.val=3",
    "dataset.test=4",
    "data.size=[48,48]",
    "data.batch_size=4",
    "data.workers=0",
    "precision=32-true",
]

CONTENTS = [
    *(f"checkpoints/{name}.ckpt" for name in ("best", "best_loss", "last")),
    *(
        "config.yaml",
        "split.csv",
        "metrics.csv",
        "classes.csv",
        "curves.png",
        "predictions.png",
        "report.json",
        "report.md",
    ),
    *("run.log", ".hydra/overrides.yaml", "tensorboard"),
]


run = partial(run_script, "train.py")


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    folder = tmp_path_factory.mktemp("runs") / "one, with = and spaces"
    done = run(*SMALL, "trainer.max_epochs=2", f"hydra.run.dir='{folder}'", fresh=True)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_the_run_folder_holds_what_the_readme_says(finished: tuple[Path, Any]) -> None:
    folder, done = finished
    for name in CONTENTS:
        assert (folder / name).exists(), name
    assert done.stderr == ""
    assert len(rows(folder)) == 2
    assert yaml.safe_load((folder / "config.yaml").read_text())["data"]["batch_size"] == 4
    assert len((folder / "split.csv").read_text().splitlines()) == 1 + 10 + 3 + 4
    assert str(folder) in done.stdout


def test_the_curves_mark_the_epoch_of_the_best_checkpoint(finished: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = finished
    report = json.loads((folder / "report.json").read_text())
    best = int(report["protocol"]["checkpoint"].rpartition(" ")[2])
    draw_curves(folder / "metrics.csv", tmp_path / "curves.png", best)
    marked, found = (Image.open(where / "curves.png").tobytes() for where in (tmp_path, folder))
    assert marked == found


def test_the_report_is_what_its_checkpoint_scores(finished: tuple[Path, Any]) -> None:
    folder, _ = finished
    report = json.loads((folder / "report.json").read_text())
    sections = {"metrics", "per_class", "baseline", "protocol", "model", "data", "environment", "seconds"}
    assert set(report) == sections
    config = yaml.safe_load((folder / "config.yaml").read_text())
    trained = load(folder / "checkpoints" / "best.ckpt")
    classes = len(trained.classes)
    counts = ConfusionMatrix(classes)
    for sample in (dataset := open_dataset(**config["dataset"])).test:
        image_BCHW = torch.from_numpy(sample["image"]).permute(2, 0, 1)[None]
        with torch.no_grad():
            labels_BHW = trained.decision.labels(trained.model(image_BCHW))
        counts.update(image_counts(labels_BHW, torch.from_numpy(sample["mask"])[None], classes))
    expected = scores(counts.compute(), binary=False)
    for name, value in expected.items():
        measured = report["metrics"][f"test/{name}"]
        assert (np.nan if measured is None else measured) == pytest.approx(value, abs=1e-12, nan_ok=True), (
            name
        )
    assert set(report["per_class"]) == set(dataset.classes.names)
    assert report["protocol"]["split_sha256"]["test"]


def test_the_report_has_the_best_epochs_validation(finished: tuple[Path, Any]) -> None:
    folder, _ = finished
    report = json.loads((folder / "report.json").read_text())
    best = max(rows(folder), key=lambda row: float(row["val/miou"]))
    assert report["metrics"]["val/miou"] == float(best["val/miou"])
    assert report["metrics"]["val/loss"] == float(best["val/loss"])


def test_a_refused_resume_changes_nothing_and_a_moved_run_goes_on(
    finished: tuple[Path, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "moved"
    shutil.copytree(finished[0], folder)
    before = {path: path.read_bytes() for path in folder.rglob("*.yaml")}
    done = run(f"resume={folder}", "backbone=resnet18")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert {path: path.read_bytes() for path in folder.rglob("*.yaml")} == before

    epochs = rows(folder)
    best = read(folder / "checkpoints" / "best.ckpt")["epoch"] + 1
    # So slow that nothing can get better: the best epoch of before must stay the best.
    done = run(f"resume={folder}", "trainer.max_epochs=3", "optimizer.lr=1e-12")
    assert (done.returncode, done.stderr) == (0, "")
    assert "resuming after epoch 2" in done.stdout
    assert rows(folder)[:2] == epochs
    assert [row["epoch"] for row in rows(folder)] == ["1", "2", "3"]
    assert read(folder / "checkpoints" / "last.ckpt")["epoch"] == 2
    report = json.loads((folder / "report.json").read_text())
    scores_by_epoch = {int(row["epoch"]): float(row["val/miou"]) for row in rows(folder)}
    now = read(folder / "checkpoints" / "best.ckpt")["epoch"] + 1
    assert now == best or scores_by_epoch[now] > scores_by_epoch[best]
    assert report["metrics"]["val/miou"] == scores_by_epoch[now]
    assert report["protocol"]["checkpoint"] == f"best.ckpt, epoch {now}"


def test_a_run_without_validation_says_so(tmp_path: Path) -> None:
    done = run(
        *SMALL, "trainer.max_epochs=1", "trainer.check_val_every_n_epoch=5", f"hydra.run.dir={tmp_path}"
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "before its first validation" in done.stderr


class Canary:
    """Unpickled, it would write the file."""

    def __init__(self, path: Path) -> None:
        self.command = f"touch '{path}'"

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def poisoned(contents: dict[str, Any], place: str, canary: Path) -> dict[str, Any]:
    """The checkpoint with something foreign in it."""
    about = contents["segmentation"]
    if place == "pickle":
        contents["segmentation"]["extra"] = Canary(canary)
    elif place == "backbone":
        about["model"]["backbone"]["name"] = "os.system"
    elif place == "head":
        about["model"]["head"] = {"name": "deeplabv3", "_target_": "os.system", "command": f"touch {canary}"}
    elif place == "target":
        about["model"]["_target_"] = "os.system"
    return contents


FOREIGN = ("pickle", "backbone", "head", "target")


@pytest.fixture
def hostile(request: pytest.FixtureRequest, finished: tuple[Path, Any], tmp_path: Path) -> Iterator[Path]:
    """A run folder whose last.ckpt has something foreign in it; its canary must not have sung."""
    folder, canary = tmp_path / "run", tmp_path / "canary"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump([*SMALL, "trainer.max_epochs=3"]))
    contents = torch.load(finished[0] / "checkpoints" / "last.ckpt", weights_only=True)
    torch.save(poisoned(contents, request.param, canary), folder / "checkpoints" / "last.ckpt")
    yield folder
    assert not canary.exists()
    pickle.loads(pickle.dumps(Canary(canary)))
    assert canary.exists(), "the canary cannot sing: the test proves nothing"


@pytest.mark.parametrize("hostile", FOREIGN, indirect=True)
def test_a_hostile_checkpoint_is_not_loaded(hostile: Path) -> None:
    with pytest.raises(UserError, match=r"last\.ckpt"):
        load(hostile / "checkpoints" / "last.ckpt")


@pytest.mark.parametrize("hostile", ["pickle", "target"], indirect=True)
def test_a_hostile_checkpoint_is_not_resumed(hostile: Path) -> None:
    done = run(f"resume={hostile}")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "last.ckpt" in done.stderr


@pytest.mark.parametrize("hostile", ["pickle"], indirect=True)
def test_hostile_weights_are_not_loaded(hostile: Path) -> None:
    done = run(
        *SMALL, f"weights={hostile / 'checkpoints' / 'last.ckpt'}", f"hydra.run.dir={hostile.parent / 'out'}"
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "last.ckpt" in done.stderr


def test_weights_go_from_one_run_into_another(finished: tuple[Path, Any], tmp_path: Path) -> None:
    source = finished[0] / "checkpoints" / "best.ckpt"
    done = run(
        *SMALL,
        "trainer=debug",
        f"weights='{source}'",
        "dataset=shapes_binary",
        "loss=bce_dice",
        f"hydra.run.dir={tmp_path}",
    )
    assert done.returncode == 0, done.stderr
    assert "head.low_classifier.weight" in done.stdout  # five classes do not fit one logit, and that is said
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["protocol"]["threshold"] == 0.5
    assert {"test/iou", "test/dice", "test/specificity"} <= set(report["metrics"])


def test_ema_freezing_and_the_rest_run_together(tmp_path: Path) -> None:
    done = run(
        *SMALL,
        "callbacks.ema_decay=0.9",
        "callbacks.freeze_backbone_epochs=1",
        "trainer.max_epochs=2",
        "trainer.accumulate_grad_batches=2",
        "trainer.gradient_clip_val=1.0",
        "trainer.check_val_every_n_epoch=2",
        "scheduler=plateau",
        "scheduler.warmup_epochs=1",
        "head.aux=true",
        "data.resize=false",
        "data.size=[33,35]",
        "data.workers=1",
        "precision=bf16-mixed",
        f"hydra.run.dir={tmp_path}",
    )
    assert (done.returncode, done.stderr) == (0, "")
    averaged, last = (read(tmp_path / "checkpoints" / f"{name}.ckpt") for name in ("best", "last"))
    assert "current_model_state" in averaged
    frozen = {
        name: value
        for name, value in last["current_model_state"].items()
        if name.startswith("model.backbone")
    }
    assert frozen
    assert json.loads((tmp_path / "report.json").read_text())["metrics"]["val/miou"] > 0
