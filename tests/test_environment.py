"""Cores are those of the container, not of the machine around it."""

import os
from pathlib import Path

import pytest

from segmentation import environment
from segmentation.data.datamodule import count_workers


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a control group inside another one, on a machine of 16 cores."""
    groups, proc = tmp_path / "groups", tmp_path / "proc"
    own = groups / "job" / "step"
    own.mkdir(parents=True)
    (proc / "self").mkdir(parents=True)
    (proc / "self" / "cgroup").write_text("1:cpu:/old\n0::/job/step\n")
    monkeypatch.setattr(environment, "_CGROUPS", groups)
    monkeypatch.setattr(environment, "_PROC", proc)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)), raising=False)
    return own


def test_without_limits(container: Path) -> None:
    (container / "cpu.max").write_text("max 100000\n")
    assert environment.cores() == 16


@pytest.mark.parametrize(
    ("limit", "cores"), [("400000 100000", 4), ("150000 100000", 1), ("50000 100000", 1)]
)
@pytest.mark.parametrize("above", [False, True])
def test_a_share_of_the_cores(container: Path, limit: str, cores: int, above: bool) -> None:
    ((container.parent if above else container) / "cpu.max").write_text(limit)
    assert environment.cores() == cores


def test_bound_to_some_cores(container: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 5, 7})
    assert environment.cores() == 3


def test_of_this_machine() -> None:
    assert environment.cores() >= 1


@pytest.mark.parametrize(
    ("cores", "gpu", "workers"), [(16, True, 8), (4, True, 3), (1, True, 0), (16, False, 0)]
)
def test_workers(cores: int, gpu: bool, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    monkeypatch.setattr("segmentation.data.datamodule.cores", lambda: cores)
    assert count_workers("auto") == workers
    assert count_workers(5) == 5
