"""A run that was cut off ends as if it had not been."""

import csv
import functools
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import composed
from PIL import Image

from segmentation import build, commands
from segmentation.callbacks import preemption
from segmentation.callbacks.checkpoint import AtomicCheckpointIO
from segmentation.callbacks.monitoring import Throughput
from segmentation.checkpoint import read
from segmentation.config import read_training_settings
from segmentation.data import open_dataset
from segmentation.data.dataset import Samples
from segmentation.errors import UserError
from segmentation.task import SegmentationTask
from segmentation.training import train
from segmentation.types import Sample
from segmentation.writing import write_json

pytestmark = pytest.mark.usefixtures("no_figures")

SMALL = [
    "backbone=timm",
    "backbone.name=test_resnet",  # a quarter of the layers of the others
    "head=fcn",
    "dataset.size=48",
    "dataset.train=10",
    "dataset.val=3",
    "dataset.test=2",
    "data.size=[48,48]",
    "data.batch_size=2",
    "data.workers=0",
    "precision=32-true",
    "trainer.max_epochs=3",
    "augmentation=standard",
    "callbacks.grid.images=0",
    "logger=none",
]

# What a resumed run must remember beyond weights, optimizer and place; each run has some of it, and dropout.
MEMORIES = {
    "plain": ["scheduler=onecycle"],
    "averages": ["callbacks.ema_decay=0.5", "scheduler=plateau", "scheduler.patience=0"],
    "patience": [
        "callbacks.early_stopping.patience=1",
        "callbacks.early_stopping.min_delta=9",
        "trainer.accumulate_grad_batches=2",
        "data.workers=1",
    ],
    "validations": [
        "data.batch_size=1",
        "+trainer.val_check_interval=0.4",
        "scheduler=plateau",
        "scheduler.patience=0",
    ],
    "steps": ["trainer.max_steps=11", "scheduler=cosine", "trainer.limit_train_batches=4"],
}


@dataclass(frozen=True)
class Signalling:
    """Samples, one of which sends a signal to the process when it is read for the `after`th time in all."""

    samples: Samples
    after: int
    number: int
    reads: list[int]

    @property
    def names(self) -> list[str]:
        return list(self.samples.names)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        self.reads.append(index)
        if len(self.reads) == self.after:
            os.kill(os.getpid(), self.number)
        return self.samples[index]


def start(folder: Path, *overrides: str, cut: dict[str, int] | None = None, number: int = 0) -> None:
    """Trains in this process; `cut` names the split and the reading at which the signal comes."""
    folder.mkdir(exist_ok=True)
    config = composed(*SMALL, *overrides)
    dataset = open_dataset(**config["dataset"])
    for split, after in (cut or {}).items():
        samples: Any = Signalling(getattr(dataset, split), after, number, [])
        dataset = replace(dataset, **{split: samples})
    train(config, dataset, folder)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [
            {name: value for name, value in row.items() if "images_per_second" not in name}
            for row in csv.DictReader(file)
        ]


def check_same(folder: Path, whole: Path) -> None:
    assert rows(folder) == rows(whole)
    first, second = (json.loads((path / "report.json").read_text())["metrics"] for path in (folder, whole))
    for name, value in first.items():
        assert name.endswith("images_per_second") or value == second[name], name
    for name in ("best", "best_loss", "last"):
        contents, expected = (read(path / "checkpoints" / f"{name}.ckpt") for path in (folder, whole))
        for key, value in contents["state_dict"].items():
            assert torch.equal(value, expected["state_dict"][key]), (name, key)
        (curve,), (same,) = contents["lr_schedulers"], expected["lr_schedulers"]
        assert {**curve, "_step_count": 0} == {**same, "_step_count": 0}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The run of a memory's name that was left alone."""

    @functools.cache
    def run(memory: str) -> Path:
        folder = tmp_path_factory.mktemp("whole") / memory
        start(folder, *MEMORIES[memory])
        return folder

    return run


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """What the signals did before, they do again after a run."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert [signal.getsignal(number) for number in numbers] == before


# The reading at which the signal comes, and the signal.
MOMENTS = {
    "in the first epoch": ({"train": 3}, signal.SIGINT),
    "after the first epoch's last validation": ({"train": 9}, signal.SIGTERM),
    "within an accumulation": ({"train": 11}, signal.SIGTERM),
    "at the second epoch's end": ({"train": 18}, signal.SIGTERM),
    "in the second validation": ({"val": 5}, signal.SIGUSR1),
    "in the test": ({"test": 1}, signal.SIGTERM),
}


@pytest.mark.parametrize(
    ("memory", "moment"),
    [
        ("averages", "in the first epoch"),
        ("averages", "at the second epoch's end"),
        ("averages", "in the second validation"),
        ("plain", "in the first epoch"),
        ("validations", "after the first epoch's last validation"),
        ("patience", "within an accumulation"),
        ("patience", "at the second epoch's end"),
        ("patience", "in the test"),
        ("steps", "at the second epoch's end"),
    ],
)
def test_a_signal_leaves_a_run_that_goes_on_where_it_was(
    memory: str, moment: str, whole: Callable[[str], Path], tmp_path: Path
) -> None:
    folder, options = tmp_path / "run", MEMORIES[memory]
    cut, number = MOMENTS[moment]
    with pytest.raises(SystemExit) as caught:
        # A worker would get the signal.
        start(folder, *options, "data.workers=0", cut=cut, number=number)
    assert caught.value.code == 128 + number
    steps = read(folder / "checkpoints" / "last.ckpt")["global_step"]
    start(folder, *options, f"resume='{folder}'")
    assert 0 < steps <= read(folder / "checkpoints" / "last.ckpt")["global_step"]
    check_same(folder, whole(memory))


@pytest.mark.parametrize(("number", "wait"), [(signal.SIGINT, 0.0), (signal.SIGTERM, 0.2)])
def test_a_second_signal_ends_a_run_at_once(
    number: int, wait: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preemption, "_AGAIN_S", 0.1)
    dataset = open_dataset(**composed(*SMALL)["dataset"])

    class Impatient(Signalling):
        def __getitem__(self, index: int) -> Sample:
            os.kill(os.getpid(), number)
            time.sleep(wait)
            return super().__getitem__(index)

    with pytest.raises(SystemExit) as caught:
        train(composed(*SMALL), replace(dataset, train=Impatient(dataset.train, 0, 0, [])), tmp_path)
    assert caught.value.code == 128 + number
    assert not (tmp_path / "checkpoints" / "last.ckpt").exists()


def test_a_second_signal_ends_hanging_loaders_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preemption, "_AGAIN_S", 0.1)
    dataset, own = open_dataset(**composed(*SMALL)["dataset"]), os.getpid()

    class Hanging(Signalling):
        def __getitem__(self, index: int) -> Sample:
            for _ in range(2):
                os.kill(own, signal.SIGTERM)
                time.sleep(0.2)
            time.sleep(60)
            return super().__getitem__(index)

    start, config = time.monotonic(), composed(*SMALL, "data.workers=1")
    with pytest.raises(SystemExit) as caught:
        train(config, replace(dataset, train=Hanging(dataset.train, 0, 0, [])), tmp_path)
    assert caught.value.code == 128 + signal.SIGTERM
    assert time.monotonic() - start < 30


# The signal, what brings it where no step is under way, and whether there is something to resume then.
OUTSIDE = {
    "before the first step": (signal.SIGINT, Throughput, "setup", 1, False),
    # best, best_loss, last
    "after the last one": (signal.SIGTERM, AtomicCheckpointIO, "save_checkpoint", 3, True),
    "in the test": (signal.SIGINT, SegmentationTask, "test_step", 1, True),
}


@pytest.mark.parametrize("place", OUTSIDE)
def test_a_signal_where_no_step_is_under_way_is_heeded(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, owner, name, call, resumable = OUTSIDE[place]
    calls: list[int] = []
    original = getattr(owner, name)

    def signalling(*args: Any, **kwargs: Any) -> Any:
        calls.append(number)
        if len(calls) == call:
            os.kill(os.getpid(), number)
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, signalling)
    with pytest.raises(SystemExit) as caught:
        start(tmp_path, "trainer.max_epochs=1", "dataset.train=2")
    assert caught.value.code == 128 + number
    assert (tmp_path / "checkpoints" / "last.ckpt").exists() == resumable
    assert not (tmp_path / "report.json").exists()


def test_weights_that_are_no_numbers_are_no_result(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"diverged: in .*best\.ckpt"):
        start(tmp_path, "optimizer.lr=1e30", "trainer.max_epochs=1")
    assert not (tmp_path / "report.json").exists()


def test_more_epochs_on_resume_stretch_the_schedule(tmp_path: Path) -> None:
    folder, options = tmp_path / "run", ["scheduler=cosine", "optimizer=sgd"]
    start(folder, *options, "trainer.max_epochs=1")
    options += ["trainer.max_epochs=2", "callbacks.early_stopping.patience=null", f"resume='{folder}'"]
    (folder / "pruned.txt").write_text("pruned after epoch 1 of 1\n")
    with pytest.raises(SystemExit):
        start(folder, *options, cut={"train": 3}, number=signal.SIGTERM)
    assert not {path.name for path in folder.iterdir()} & {"report.json", "report.md", "pruned.txt"}
    start(folder, *options)
    last = read(folder / "checkpoints" / "last.ckpt")
    assert last["global_step"] == 10
    assert all(group["lr"] < 1e-9 for group in last["optimizer_states"][0]["param_groups"])
    assert [row["epoch"] for row in rows(folder)] == ["1", "2"]


def test_a_resumed_run_needs_no_file_of_weights(whole: Callable[[str], Path], tmp_path: Path) -> None:
    folder, weights = tmp_path / "run", tmp_path / "weights.ckpt"
    shutil.copy(whole("plain") / "checkpoints" / "best.ckpt", weights)
    options = [f"weights='{weights}'", "dataset.train=4", "dataset.val=1"]
    start(folder, *options, "trainer.max_epochs=1")
    weights.unlink()
    start(folder, *options, "trainer.max_epochs=2", f"resume='{folder}'")
    assert [row["epoch"] for row in rows(folder)] == ["1", "2"]


# What the run began with, and what is typed beside resume=.
TYPED = [
    (
        ["scheduler=constant"],
        [
            *("optimizer.lr=0.02", "optimizer.weight_decay=0.3", "optimizer.betas=[0.8,0.9]"),
            "scheduler.warmup_epochs=2",
        ],
    ),
    (["scheduler=onecycle"], ["scheduler=constant", "optimizer.backbone_lr_factor=0.1"]),
    (
        ["scheduler=cosine", "optimizer=adamw"],
        [
            *("scheduler=poly", "scheduler.power=2"),
            *("optimizer=sgd", "optimizer.momentum=0.5", "optimizer.nesterov=true"),
        ],
    ),
    (["scheduler=plateau", "optimizer=sgd"], ["scheduler=cosine", "optimizer=adam"]),
    (["scheduler=cosine"], ["scheduler=plateau", "scheduler.factor=0.5", "scheduler.patience=0"]),
]


@pytest.mark.parametrize(("began", "typed"), TYPED, ids=lambda part: str(part))
def test_options_typed_beside_resume_hold(began: list[str], typed: list[str], tmp_path: Path) -> None:
    folder, few = tmp_path / "run", ["dataset.train=4", "dataset.val=1"]
    start(folder, *few, *began, "trainer.max_epochs=1")
    typed = [*few, *began, *typed, "trainer.max_epochs=2"]
    start(folder, *typed, f"resume='{folder}'")
    last = read(folder / "checkpoints" / "last.ckpt")

    settings = read_training_settings(composed(*SMALL, *typed))
    task = build.build_task(settings, open_dataset(**settings.dataset))
    optimizer = task.optimizer(task.model)
    task.scheduler(optimizer, total_steps=4, steps_per_epoch=2, epochs=2).go_to(4)
    assert last["global_step"] == 4
    (state,) = last["optimizer_states"]
    assert state["param_groups"] == optimizer.state_dict()["param_groups"]
    assert all(len(memory) > 0 for memory in state["state"].values())


def test_fewer_epochs_than_there_are_are_refused(tmp_path: Path) -> None:
    start(tmp_path, "trainer.max_epochs=2")
    before = (tmp_path / "metrics.csv").read_bytes()
    with pytest.raises(
        UserError, match=r"^trainer\.max_epochs=1, but .* 2 epochs already: type .*=2 or more"
    ):
        start(tmp_path, "trainer.max_epochs=1", f"resume={tmp_path}")
    assert (tmp_path / "metrics.csv").read_bytes() == before


def test_a_resume_without_its_history_ends_in_a_report(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(SystemExit):  # all epochs are trained
        start(folder, "trainer.max_epochs=1", cut={"test": 1}, number=signal.SIGTERM)
    score = float(rows(folder)[0]["val/miou"])
    (folder / "metrics.csv").unlink()
    start(folder, "trainer.max_epochs=1", f"resume='{folder}'")
    metrics = json.loads((folder / "report.json").read_text())["metrics"]
    assert metrics["val/miou"] == pytest.approx(score)  # from the checkpoint
    assert "test/miou" in metrics and "train/loss" not in metrics


class Cut:
    """Cannot be pickled: saving it breaks in the middle of the file, as a crash would."""

    def __reduce__(self) -> Any:
        raise OSError("cut off")


def test_a_save_that_is_cut_off_leaves_the_earlier_checkpoint(tmp_path: Path) -> None:
    path, plugin = tmp_path / "checkpoints" / "last.ckpt", AtomicCheckpointIO()
    plugin.save_checkpoint({"segmentation": {}, "state_dict": {"a": torch.ones(9)}}, path)
    with pytest.raises(OSError, match="cut off"):
        plugin.save_checkpoint({"state_dict": {"a": torch.zeros(9)}, "rest": Cut()}, path)
    assert torch.equal(read(path)["state_dict"]["a"], torch.ones(9))
    assert [left.name for left in path.parent.iterdir()] == ["last.ckpt"]


def test_a_report_that_is_cut_off_leaves_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.json"
    write_json(path, {"metrics": {"val/miou": 0.5}})

    def cut_off(file: int) -> None:
        raise OSError("cut off")

    monkeypatch.setattr(os, "fsync", cut_off)
    with pytest.raises(OSError, match="cut off"):
        write_json(path, {"metrics": {}})
    assert json.loads(path.read_text()) == {"metrics": {"val/miou": 0.5}}


@pytest.mark.parametrize(
    ("given", "kept", "expected"),
    [
        ("auto", [[3.0, 900.0]], "3..900"),
        ("auto", None, "None"),
        ([1, 700], [[3.0, 900.0]], "1..700"),
    ],
)
def test_pixels_are_read_as_before(
    given: Any, kept: Any, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(4):
        values = np.arange(64).reshape(8, 8)
        for folder, pixels in (
            ("images", (values * 10).astype(np.uint16)),
            ("masks", np.uint8(values // 32 * 255)),
        ):
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "data" / folder / f"{index}.png")
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    about = {"input": {"size": [8, 8], "resize": True} | ({"pixel_range": kept} if kept else {})}
    torch.save({"segmentation": about, "state_dict": {}}, tmp_path / "run" / "checkpoints" / "last.ckpt")
    config = composed("dataset=binary", f"dataset.root={tmp_path / 'data'}", f"resume={tmp_path / 'run'}")
    config["data"]["pixel_range"] = given
    ranges = []
    monkeypatch.setattr(
        "segmentation.training.train", lambda config, dataset, folder: ranges.append(str(dataset.pixel_range))
    )
    commands.train.__wrapped__(config, tmp_path / "run")
    assert ranges == [expected]
