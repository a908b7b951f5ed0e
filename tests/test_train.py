"""A training run in this process: what its report describes, how it ends, and the trainer's debugging flags."""

import errno
import json
import logging
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import compose, composed

from segmentation import build
from segmentation.callbacks.checkpoint import AtomicCheckpointIO
from segmentation.checkpoint import load, read
from segmentation.config import read_evaluation_settings, read_training_settings
from segmentation.data import open_dataset
from segmentation.data.shapes import Shapes
from segmentation.errors import UserError
from segmentation.evaluation import evaluate
from segmentation.metrics import ConfusionMatrix, image_counts, scores
from segmentation.task import SegmentationTask
from segmentation.training import train
from segmentation.types import Batch

pytestmark = pytest.mark.usefixtures("no_figures")

SMALL = [
    "backbone=timm",
    "backbone.name=test_resnet",  # of a few layers
    "head=fcn",
    "dataset.size=48",
    "dataset.train=8",
    "dataset.val=3",
    "dataset.test=2",
    "data.size=[48,48]",
    "data.batch_size=2",
    "data.workers=0",
    "precision=32-true",
    "trainer.max_epochs=2",
    "callbacks.grid.images=0",
    "logger=none",
]


def run(folder: Path, *overrides: str) -> dict[str, Any]:
    """The report."""
    folder.mkdir(exist_ok=True)
    config = composed(*SMALL, *overrides)
    train(config, open_dataset(**config["dataset"]), folder)
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


def test_the_report_describes_the_validation_that_chose_the_checkpoint(tmp_path: Path) -> None:
    rough = ["optimizer.lr=0.01", "scheduler=constant", "trainer.max_epochs=1", "seed=1"]
    report = run(tmp_path, "+trainer.val_check_interval=0.25", *rough)
    best = tmp_path / "checkpoints" / "best.ckpt"
    assert read(best)["global_step"] < 4, "the epoch's last validation is the best: the test proves nothing"
    trained = load(best)
    counts = ConfusionMatrix(len(trained.classes))
    val = open_dataset(**composed(*SMALL)["dataset"]).val
    for sample in map(val.__getitem__, range(len(val))):
        with torch.no_grad():
            logits_BKHW = trained.model(torch.from_numpy(sample["image"]).permute(2, 0, 1)[None])
        mask_BHW = torch.from_numpy(sample["mask"])[None]
        counts.update(image_counts(trained.decision.labels(logits_BKHW), mask_BHW, len(trained.classes)))
    expected = scores(counts.compute(), binary=False)["miou"]
    assert report["metrics"]["val/miou"] == pytest.approx(expected, abs=1e-6)
    assert {"train/loss", "val/loss", "test/miou"} <= report["metrics"].keys()


@pytest.mark.parametrize(("trainer", "tiles"), [("default", True), ("fsdp", False)])
def test_only_whole_models_are_validated_by_tiles(trainer: str, tiles: bool) -> None:
    settings = read_training_settings(composed(*SMALL, f"trainer={trainer}", "data.resize=false"))
    task = build.build_task(settings, open_dataset(**settings.dataset))
    assert ("tiles" in task._describe()["protocol"]["input"]) is tiles


@pytest.mark.parametrize(
    "options", [["dataset=shapes"], ["dataset=shapes_binary", "data.resize=false", "data.size=[32,32]"]]
)
def test_the_best_checkpoint_gets_the_temperature_of_val(options: list[str], tmp_path: Path) -> None:
    """The second by tiles."""
    report = run(tmp_path, *options, "calibrate=true", "trainer.max_epochs=1")
    best = tmp_path / "checkpoints" / "best.ckpt"
    kept = load(best).decision.temperature
    assert kept == report["protocol"]["temperature"] != 1
    assert "temperature" not in read(tmp_path / "checkpoints" / "last.ckpt")["segmentation"]
    own = ("workers=0", f"checkpoint={best}", "split=val", "calibrate=true", "precision=32-true")
    evaluate(read_evaluation_settings(compose("evaluate", *own)), tmp_path / "evaluation")
    found = json.loads((tmp_path / "evaluation" / "report.json").read_text())
    assert found["protocol"]["temperature"] == pytest.approx(kept, rel=1e-3)
    assert found["metrics"]["val/miou"] == pytest.approx(report["metrics"]["val/miou"], abs=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["trainer.max_steps=4"], "ended in epoch 1 of 2 by trainer.max_steps=4"),
        (["trainer.max_time=00:00:00:01", "trainer.max_epochs=99"], "ended in epoch "),
        (
            [
                "callbacks.early_stopping.min_delta=9",
                "callbacks.early_stopping.patience=1",
                "trainer.max_epochs=4",
            ],
            "early stopping in epoch 2",
        ),
        ([], ""),
    ],
)
def test_a_run_that_ends_early_says_why(
    options: list[str], words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "segmentation"):
        run(tmp_path, *options)
    said = [line for line in caplog.messages if line.startswith(("ended", "early stopping"))]
    assert len(said) == bool(words)
    assert all(line.startswith(words) for line in said)


def test_overfitting_sees_the_same_images_in_every_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str | float]] = []
    step = SegmentationTask.training_step

    def noted(task: SegmentationTask, batch: Batch, index: int) -> torch.Tensor:
        seen.append([*batch["name"], float(batch["image"].float().mean())])
        return step(task, batch, index)

    monkeypatch.setattr(SegmentationTask, "training_step", noted)
    run(tmp_path, "+trainer.overfit_batches=2", "augmentation=standard")
    assert len(seen) == 4
    assert seen[:2] == seen[2:]


@pytest.mark.parametrize(
    "flags",
    [["+trainer.detect_anomaly=true"], ["+trainer.inference_mode=false"], ["+trainer.min_epochs=1"]],
)
def test_flags_for_debugging_work(flags: list[str], tmp_path: Path) -> None:
    assert run(tmp_path, "trainer.max_epochs=1", *flags)["metrics"]["test/miou"] >= 0


def test_an_interval_beyond_the_epoch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^trainer\.val_check_interval=5: an epoch has 4 batches\. [^\n]*$"):
        run(tmp_path, "+trainer.val_check_interval=5")


def test_a_killed_loader_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, get = os.getpid(), Shapes.__getitem__

    def killing(shapes: Shapes, index: int) -> Any:
        if os.getpid() != own:
            os.kill(os.getpid(), signal.SIGKILL)
        return get(shapes, index)

    monkeypatch.setattr(Shapes, "__getitem__", killing)
    with pytest.raises(UserError, match=r"^The system has ended a loader process[^\n]* start anew\.$"):
        run(tmp_path, "data.workers=1")


def test_a_full_disk_is_one_line_and_leaves_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, calls = torch.save, []

    def filling(contents: Any, file: Any) -> None:
        calls.append(file)
        if len(calls) > 3:  # best, best_loss and last of the first epoch
            try:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                raise RuntimeError("[enforce fail] unexpected pos 9 vs 8")  # noqa: B904  # as torch does
        save(contents, file)

    monkeypatch.setattr(AtomicCheckpointIO.save_checkpoint.__globals__["torch"], "save", filling)
    with pytest.raises(
        UserError, match=r"^The disk of .* is full\. Make room, then go on with resume=[^\n]*$"
    ):
        run(tmp_path)
    monkeypatch.undo()
    assert read(tmp_path / "checkpoints" / "last.ckpt")["epoch"] == 0


@pytest.mark.parametrize(
    "spoil",
    [
        lambda contents: contents.update(optimizer_states=[3]),
        lambda contents: contents["loops"].update(fit_loop={"epoch_progress": 5}),
        lambda contents: contents["loops"]["fit_loop"]["epoch_progress"]["current"].update(processed="many"),
        lambda contents: contents["loops"]["fit_loop"].update(
            {"epoch_loop.batch_progress": {"current": {"completed": 2}}}
        ),
        lambda contents: contents.update(train_tally=7),
        lambda contents: contents["state_dict"].clear(),
        lambda contents: contents.update(loops=[]),
        lambda contents: contents.update({"pytorch-lightning_version": 9}),
    ],
)
def test_a_training_state_that_does_not_fit_is_one_line(
    spoil: Any, tmp_path: Path, interrupted: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(interrupted, folder)
    last = folder / "checkpoints" / "last.ckpt"
    contents = torch.load(last, weights_only=True)
    spoil(contents)
    torch.save(contents, last)
    with pytest.raises(UserError, match=r"last\.ckpt") as caught:
        run(folder, f"resume={folder}", "trainer.max_epochs=3")
    assert str(caught.value).isprintable()


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch, for others to go on."""
    folder = tmp_path_factory.mktemp("interrupted") / "run"
    run(folder, "trainer.max_epochs=1")
    return folder
