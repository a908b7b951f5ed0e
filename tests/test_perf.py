"""Every measurement in perf/ runs with a tiny budget and prints its table."""

import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from scripts import run_script
from torch import nn

FOLDER = ROOT / "perf"
SMALL = ("--size", "64", "64", "--rounds", "1", "--threads", "1", "--device", "cpu")

Run = Callable[..., str]
pytestmark = pytest.mark.usefixtures("no_figures")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Run]:
    def call(script: str, *arguments: str) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.syspath_prepend(str(FOLDER))
        monkeypatch.setattr(sys, "argv", [str(FOLDER / script), *arguments])
        runpy.run_path(str(FOLDER / script), run_name="__main__")
        return capsys.readouterr().out

    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as torch's threads: a measurement sets both
    threads = torch.get_num_threads()
    yield call
    torch.set_num_threads(threads)


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A measurement's new Pythons are forks, which saves the imports, and draw no figures."""
    start = subprocess.run

    def call(command: list[str], **how: Any) -> object:
        if command[0] != sys.executable:
            return start(command, **how)
        _, script, *arguments = command
        if script == "-c":
            code, *arguments = arguments
            (tmp_path / "code.py").write_text(f"import sys; sys.path.append({str(FOLDER)!r})\n{code}")
            script = str(tmp_path / "code.py")
        done = run_script(script, *arguments, folder=how["cwd"], environment=how.get("env", {}))
        assert (done.returncode, done.stderr) == (0, "")
        return done

    monkeypatch.setattr(subprocess, "run", call)


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize(
    ("script", "arguments", "contenders"),
    [
        (
            "training.py",
            (*SMALL, "--backbone", "mobilenetv3_small", "--steps", "1", "--batch", "2"),
            ("tutorial", "smp in Lightning", "train.py", "bare step"),
        ),
        (
            "loading.py",
            (*SMALL[:3], "--rounds", "1", "--images", "8"),
            ("tutorial", "ours, light augmentation", "ours, cache=disk"),
        ),
        (
            "evaluation.py",
            (*SMALL, "--train", "8", "--images", "8", "--counts", "12", "--compile"),
            ("tutorial", "evaluate.py", "forward pass alone"),
        ),
        (
            "inference.py",
            (
                *(*SMALL, "--train", "8", "--backbones", "resnet18", "--images", "2", "--compile"),
                "--exported",
            ),
            (
                *("torchvision", "ours, fp32", "ours, fp32, compiled", "ours, ONNX Runtime"),
                "ours, ONNX Runtime, INT8",
            ),
        ),
        (
            "video.py",
            (*SMALL, "--train", "8", "--backbone", "mobilenetv3_small", "--frames", "4", "--compile"),
            ("tutorial", "predict.py"),
        ),
    ],
)
def test_a_measurement_prints_its_table(
    run: Run,
    script: str,
    arguments: tuple[str, ...],
    contenders: tuple[str, ...],
    compiled: list[object],
) -> None:
    said = run(script, *arguments)
    assert bool(compiled) == ("--compile" in arguments)
    rows = {cells[0]: cells[1:] for line in said.splitlines() if (cells := _cells(line))}
    assert set(contenders) <= rows.keys(), said
    assert rows[contenders[0]][0] == "1.00"
    for contender in contenders:
        assert "not run" in rows[contender]  # the GPU's column
        assert float(rows[contender][-2]) > 0
    assert re.search(r"Measured on \d{4}-\d\d-\d\d .* torch \d", said)
    assert f"Command: `python perf/{script} {arguments[0]}" in said


def test_recipes_are_trained_for_the_same_time_and_not_twice(run: Run, tmp_path: Path) -> None:
    time = ("--minutes", "0.001", "--rounds", "1", "--threads", "1", "--steps", "1", "--device", "cpu")
    small = ("backbone=mobilenetv3_small", "head=lraspp", "data.size=[64,64]", "data.batch_size=4")
    output = tmp_path / "results.json"
    few = ("--contenders", "ours", "smp, batch 8", "loop", "--judged", "2", "--crop", "64")
    arguments = (*time, *few, "--weights", "none", "--output", str(output), "--set", *small)
    said = run("results.py", *arguments)
    rows = {cells[0]: cells[1:] for line in said.splitlines() if (cells := _cells(line))}
    assert {"ours", "smp, batch 8", "loop"} <= rows.keys(), said
    assert all(0 <= float(rows[name][0]) < 1 and int(rows[name][3]) >= 1 for name in ("ours", "loop"))
    finished = output.read_text()
    run("results.py", *arguments)
    assert output.read_text() == finished


def test_the_doctor_is_measured(run: Run) -> None:
    said = run("doctor.py", "--images", "4", "--many", "60", "--rounds", "1")
    assert "| images/s per core, objects of 4 masks measured |" in said
    assert "| 60 files: peak memory, beside that of the imports |" in said


def test_polygons_are_measured(run: Run) -> None:
    pytest.importorskip("pyogrio", reason="needs pyogrio, the extra geo")
    said = run("polygons.py", "--side", "300", "--buildings", "16")
    rows = [_cells(line) for line in said.splitlines() if "16 of 16" in line]
    assert len(rows) == 4, said


def test_a_large_scene_is_measured(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyogrio", reason="needs pyogrio, the extra geo")

    start = subprocess.Popen

    class Forked:
        def __init__(self, command: list[str], cwd: Path) -> None:
            self.pid, self.returncode = os.getpid(), run_script(*command[1:], folder=cwd).returncode

        def poll(self) -> int:
            return self.returncode

    def started(command: list[str], **how: Any) -> object:
        return (
            Forked(command, how["cwd"])
            if command[1].endswith(("train.py", "evaluate.py", "predict.py"))
            else start(command, **how)
        )

    monkeypatch.setattr(subprocess, "Popen", started)  # as `forked` does
    tiny = ("data.size=[256,256]", "data.batch_size=2", "head=lraspp", "dataset.buffer=0")
    tiny = (*tiny, "trainer.limit_train_batches=1", "callbacks.grid.images=0")
    said = run("earth.py", "--side", "768", "--threads", "1", "--device", "cpu", "--set", *tiny)
    assert re.search(r"\| make \| +\d+ \| +0 \| \d+ roofs \|", said), said
    assert re.search(r"\| predict\.py, polygons \| +\d+ \| +\d+ \| \d+ polygons \|", said), said


def test_exported_models_are_compared_with_torch(run: Run) -> None:
    said = run("export.py", "--heads", "fcn", "--backbones", "timm:test_resnet")
    name, _, largest, same, _ = next(
        cells for line in said.splitlines() if len(cells := _cells(line)) == 5 and cells[1] == "fcn"
    )
    assert name == "timm:test_resnet" and float(largest) < 1e-4 and float(same.rstrip("%")) > 99.99


@pytest.mark.usefixtures("forked")
def test_the_picture_of_the_polygons_is_made(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("pyogrio", reason="needs pyogrio, the extra geo")
    small = ("backbone=mobilenetv3_small", "weights=none", "head=lraspp", "trainer.limit_train_batches=1")
    run("roofs.py", "--epochs", "1", "--output", str(tmp_path / "polygons.png"), "--set", *small)
    assert (tmp_path / "polygons.png").stat().st_size < 300_000


@pytest.mark.usefixtures("forked")
def test_processes_are_compared_with_threads(run: Run) -> None:
    budget = ["--rounds", "1", "--threads", "1", "--device", "cpu", "--images", "8", "--jobs", "0"]
    tiny = ("data.size=[48,48]", "dataset.size=48", "data.batch_size=4", "head=lraspp")
    said = run("processes.py", *budget, "--set", *tiny)
    rows = {cells[0]: cells[1:] for line in said.splitlines() if (cells := _cells(line))}
    assert rows["1 process, 2 threads"][0] == "1.00"
    assert float(rows["2 processes, 1 thread each"][-2]) > 0


def test_accuracy_in_bf16_is_compared_with_fp32(run: Run) -> None:
    budget = ["--rounds", "1", "--threads", "1", "--device", "cpu"]
    tiny = (
        *("backbone=mobilenetv3_small", "head=lraspp", "data.size=[48,48]", "data.batch_size=2"),
        *("dataset.size=48", "dataset.train=4", "dataset.val=2", "dataset.test=2", "trainer.max_epochs=1"),
    )
    said = run("accuracy.py", *budget, "--set", *tiny)
    rows = {cells[0]: cells[1:] for line in said.splitlines() if (cells := _cells(line))}
    assert rows["seed 1"] == rows["mean"]
    assert all(0 < float(cell) < 1 for cell in rows["mean"])
    agreement = re.search(r"gives ([\d.]+)% of the test split's pixels the same label in bf16", said)
    assert agreement and 50 < float(agreement[1]) <= 100


@pytest.mark.parametrize("groups", [1, 16])
def test_emulated_bf16_convolutions_round_like_real_ones(
    groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    from bf16 import EmulatedBF16

    convolution = nn.Conv2d(16, 16, 3, dilation=2, padding=2, groups=groups)
    images = torch.randn(2, 16, 20, 20)
    found = []
    for mode in (nullcontext(), EmulatedBF16()):
        convolution.zero_grad()
        image = images.clone().requires_grad_()
        with mode, torch.autocast("cpu", dtype=torch.bfloat16):
            answer = convolution(image)
            answer.float().square().mean().backward()
        assert answer.dtype == torch.bfloat16
        found.append((answer.float(), image.grad, convolution.weight.grad))
    for native, emulated in zip(*found, strict=True):
        # Two bf16 steps at the largest value: torch sums in another order and rounds in between.
        assert (native - emulated).abs().max() <= native.abs().max() * 2**-6


def test_a_killed_run_ends_like_one_left_alone() -> None:
    done = run_script(
        "perf/kills.py", "--kills", "1", "--epochs", "2", "--seed", "3"
    )  # whose forks need no imports
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(
        r"[01] kills of 1; no checkpoint was unreadable; weights, history and scores", done.stdout
    )


def test_ratios_are_medians_over_the_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import measure

    order: list[str] = []
    results = {"a": iter([1.0, 2.0, 4.0]), "b": iter([3.0, 4.0, 20.0])}

    def contender(name: str) -> Callable[[], float]:
        def call() -> float:
            order.append(name)
            return next(results[name])

        return call

    rates = measure.alternate({name: contender(name) for name in "ab"}, 3)
    assert "".join(order) == "ababab"
    assert measure.ratio(rates, "b", "a") == 3.0
    assert measure.spread([1.0, 2.0, 4.0]) == 1.5


@pytest.mark.usefixtures("forked")
def test_a_large_data_set_is_measured_in_a_new_process(run: Run) -> None:
    said = run("start.py", "--rounds", "0", "--images", "50")
    row = next(line for line in said.splitlines() if line.startswith("| 50 |"))
    _, seconds, more, whole = _cells(row)
    assert float(seconds) > 0
    assert 0 <= float(more) < float(whole)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
