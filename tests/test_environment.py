"""The device and the command that a report names, and the cores that a process may use."""

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from conftest import composed

from segmentation import environment, machine
from segmentation.cli import compose
from segmentation.config import read_evaluation_settings
from segmentation.data import open_dataset
from segmentation.data.datamodule import count_workers
from segmentation.environment import command_line, device_name
from segmentation.errors import UserError
from segmentation.evaluation import evaluate
from segmentation.training import train

TINY = [
    *("backbone=mobilenetv3_small", "head=fcn", "dataset.size=48", "dataset.train=2", "dataset.val=1"),
    *("dataset.test=1", "data.size=[32,32]", "data.batch_size=2", "data.workers=0", "precision=32-true"),
    *("trainer.max_epochs=1", "trainer.accelerator=cpu", "callbacks.grid.images=0", "logger=none"),
]


@pytest.fixture
def beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU for the module that names the device alone: the loaders of torch would try to use it."""
    asked_by = sys._getframe
    monkeypatch.setattr(
        torch.cuda, "is_available", lambda: asked_by(1).f_code.co_filename == environment.__file__
    )
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: f"A GPU {device}")


def test_the_name_is_that_of_the_device(beside_a_gpu: None) -> None:
    assert device_name(torch.device("cuda", 1)) == "A GPU cuda:1"
    assert device_name(torch.device("cpu")).endswith(f"{torch.get_num_threads()} threads")


def test_reports_beside_a_gpu_name_the_processor_that_was_used(beside_a_gpu: None, tmp_path: Path) -> None:
    config = composed(*TINY)
    train(config, open_dataset(**config["dataset"]), tmp_path)
    checkpoint = tmp_path / "checkpoints" / "best.ckpt"
    options = [f"checkpoint='{checkpoint}'", f"output='{tmp_path / 'out'}'", "accelerator=cpu", "workers=0"]
    evaluate(read_evaluation_settings(compose("evaluate", *options)), tmp_path / "out")
    for folder in (tmp_path, tmp_path / "out"):
        report = json.loads((folder / "report.json").read_text())
        assert report["environment"]["device"].endswith(" threads"), folder


def test_the_command_is_kept_as_it_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["/x/evaluate.py", "checkpoint='a b=c'", "split=val", "output='out'", "hydra.run.dir='out'"]
    monkeypatch.setattr(sys, "argv", given)
    monkeypatch.setattr(sys, "orig_argv", ["python", "-c", "from multiprocessing.spawn import spawn_main"])
    assert command_line() == "python evaluate.py 'checkpoint=a b=c' split=val output=out"
    monkeypatch.setattr(sys, "orig_argv", ["python", "/x/evaluate.py", "split=val", "checkpoint=a b=c"])
    assert command_line() == "python evaluate.py split=val 'checkpoint=a b=c'"


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a control group inside another one, on a machine of 16 cores."""
    groups, proc = tmp_path / "groups", tmp_path / "proc"
    own = groups / "job" / "step"
    own.mkdir(parents=True)
    (proc / "self").mkdir(parents=True)
    (proc / "self" / "cgroup").write_text("1:cpu:/old\n0::/job/step\n")
    monkeypatch.setattr(machine, "_CGROUPS", groups)
    monkeypatch.setattr(machine, "_PROC", proc)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)), raising=False)
    return own


def test_without_limits(container: Path) -> None:
    (container / "cpu.max").write_text("max 100000\n")
    assert machine.cores() == 16


@pytest.mark.parametrize(
    ("limit", "cores"), [("400000 100000", 4), ("150000 100000", 1), ("50000 100000", 1)]
)
@pytest.mark.parametrize("above", [False, True])
def test_a_share_of_the_cores(container: Path, limit: str, cores: int, above: bool) -> None:
    ((container.parent if above else container) / "cpu.max").write_text(limit)
    assert machine.cores() == cores


def test_bound_to_some_cores(container: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 5, 7})
    assert machine.cores() == 3


@pytest.mark.parametrize(
    ("limit", "free"),
    [("max", 8e9 // 1024 * 1024), ("3000000000", 2.5e9), ("600000000", 1e8)],
)
def test_free_memory(container: Path, limit: str, free: float) -> None:
    (container.parent.parent.parent / "proc" / "meminfo").write_text(
        f"MemTotal: 9 kB\nMemAvailable: {8 * 10**9 // 1024} kB\n"
    )
    for name, text in {
        "max": limit,
        "current": "600000000",
        "stat": "anon 1\ninactive_file 100000000",
    }.items():
        (container / f"memory.{name}").write_text(text)
    assert machine.free_memory() == free


def test_a_picture_too_large_for_the_memory_is_refused_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "free_memory", lambda: 1e9)
    with environment.enough_memory(5000, 5000, 3, torch.device("cpu")):
        pass
    with (
        pytest.raises(UserError, match="20000x10000 pixels at once do not fit in memory: give tile=1024"),
        environment.enough_memory(10000, 20000, 3, torch.device("cpu")),
    ):
        raise AssertionError


def test_of_this_machine() -> None:
    assert machine.cores() >= 1
    assert machine.free_memory() > 0


@pytest.mark.parametrize(
    ("cores", "gpu", "workers"), [(16, True, 8), (4, True, 3), (1, True, 0), (16, False, 0)]
)
def test_workers(cores: int, gpu: bool, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    monkeypatch.setattr("segmentation.data.datamodule.cores", lambda: cores)
    assert count_workers("auto") == workers
    assert count_workers(5) == 5


def test_used_memory_is_that_of_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "status").write_text("VmHWM:\t 4096 kB\nVmRSS:\t 2048 kB\n")
    monkeypatch.setattr(machine, "_PROC", tmp_path)
    assert machine.used_memory() == 2048 * 1024
    monkeypatch.setattr(machine, "_PROC", tmp_path / "none")  # as on a Mac
    assert machine.used_memory() is None
