"""A run that was cut off ends as if it had not been."""

import csv
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import composed

from segmentation.callbacks.checkpoints import WholeFiles
from segmentation.checkpoint import read
from segmentation.data import open_source
from segmentation.data.source import Samples
from segmentation.errors import UserError
from segmentation.sample import Sample
from segmentation.training import train

SMALL = [
    "backbone=mobilenetv3_small",
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
    source = open_source(**config["dataset"])
    for split, after in (cut or {}).items():
        samples: Any = Signalling(getattr(source, split), after, number, [])
        source = replace(source, **{split: samples})
    train(config, source, folder)


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


@pytest.fixture(scope="module", params=MEMORIES)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was left alone, named after what it remembers."""
    folder = tmp_path_factory.mktemp("whole") / request.param
    start(folder, *MEMORIES[request.param])
    return folder


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
    "at the second epoch's end": ({"train": 18}, signal.SIGTERM),
    "in the second validation": ({"val": 5}, signal.SIGUSR1),
}


@pytest.mark.parametrize(
    ("whole", "moment"),
    [
        *(("averages", moment) for moment in MOMENTS),
        ("plain", "in the first epoch"),
        ("patience", "at the second epoch's end"),
        ("steps", "at the second epoch's end"),
    ],
    indirect=["whole"],
)
def test_a_signal_leaves_a_run_that_goes_on_where_it_was(whole: Path, moment: str, tmp_path: Path) -> None:
    folder, options = tmp_path / "run", MEMORIES[whole.name]
    cut, number = MOMENTS[moment]
    with pytest.raises(SystemExit) as caught:
        # A worker would get the signal.
        start(folder, *options, "data.workers=0", cut=cut, number=number)
    assert caught.value.code == 128 + number
    steps = read(folder / "checkpoints" / "last.ckpt")["global_step"]
    start(folder, *options, f"resume='{folder}'")
    assert 0 < steps <= read(folder / "checkpoints" / "last.ckpt")["global_step"]
    check_same(folder, whole)


def test_a_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    source = open_source(**composed(*SMALL)["dataset"])

    class Impatient(Signalling):
        def __getitem__(self, index: int) -> Sample:
            os.kill(os.getpid(), signal.SIGINT)
            return super().__getitem__(index)

    with pytest.raises(SystemExit) as caught:
        train(composed(*SMALL), replace(source, train=Impatient(source.train, 0, 0, [])), tmp_path)
    assert caught.value.code == 130
    assert not (tmp_path / "checkpoints" / "last.ckpt").exists()


def test_more_epochs_on_resume_stretch_the_schedule(tmp_path: Path) -> None:
    folder, options = tmp_path / "run", ["scheduler=cosine", "optimizer=sgd"]
    start(folder, *options, "trainer.max_epochs=1")
    start(folder, *options, "trainer.max_epochs=2", f"resume='{folder}'")
    last = read(folder / "checkpoints" / "last.ckpt")
    assert last["global_step"] == 10
    assert all(group["lr"] < 1e-9 for group in last["optimizer_states"][0]["param_groups"])
    assert [row["epoch"] for row in rows(folder)] == ["1", "2"]


class Cut:
    """Cannot be pickled: saving it breaks in the middle of the file, as a crash would."""

    def __reduce__(self) -> Any:
        raise OSError("cut off")


def test_a_save_that_is_cut_off_leaves_the_earlier_checkpoint(tmp_path: Path) -> None:
    path, plugin = tmp_path / "checkpoints" / "last.ckpt", WholeFiles()
    plugin.save_checkpoint({"segmentation": {}, "state_dict": {"a": torch.ones(9)}}, path)
    with pytest.raises(OSError, match="cut off"):
        plugin.save_checkpoint({"state_dict": {"a": torch.zeros(9)}, "rest": Cut()}, path)
    assert torch.equal(read(path)["state_dict"]["a"], torch.ones(9))
    with pytest.raises(UserError):
        read(path.with_name("last.ckpt.part"))
