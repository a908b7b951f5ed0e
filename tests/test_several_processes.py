"""Several processes do what one does: the same steps, the same scores, one folder, one end."""

import csv
import json
import os
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from scripts import Done, run_script

from segmentation.checkpoint import read

SCRIPT = ROOT / "tests" / "still_run.py"

# Nine images in batches of four: the last one has an image for one process alone.
OPTIONS = [
    "backbone=timm",
    "backbone.name=test_resnet",  # of a few layers
    "head=lraspp",
    "loss=ce_dice",
    "loss.class_weights=[1,2,3]",
    "head.aux=true",
    "optimizer=sgd",
    "augmentation=none",
    "data.size=[48,48]",
    "data.batch_size=4",
    "data.workers=0",
    "precision=32-true",
    "trainer.max_epochs=2",
    "logger=none",
    "callbacks.grid.images=1",
]
TWO = ["trainer=ddp", "trainer.devices=2"]


def run(folder: Path, *arguments: str, fresh: bool = False) -> Done:
    return run_script(str(SCRIPT), *arguments, *OPTIONS, folder=folder, fresh=fresh)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read(folder / "checkpoints" / "last.ckpt")["state_dict"]


def rows(folder: Path) -> list[dict[str, float]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    done = run(folder, "seed=1", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    return folder / "run"


def check_same(folder: Path, alone: Path) -> None:
    """The weights and losses to rounding, the counts exactly."""
    expected = weights(alone)
    start = max(float(value.abs().max()) for value in expected.values())
    assert start > 0
    for name, value in weights(folder).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-5, msg=name)
    for row, other in zip(rows(folder), rows(alone), strict=True):
        assert row.keys() == other.keys()
        for name, value in row.items():
            if not name.endswith("images_per_second"):
                assert value == pytest.approx(other[name], rel=1e-5, nan_ok=True), name
    reports = [json.loads((path / "report.json").read_text()) for path in (folder, alone)]
    assert reports[0]["per_class"] == reports[1]["per_class"]


def check_agreed(folder: Path) -> None:
    """Both processes were given the same options and the same folder."""
    assert json.loads((folder / "report.json").read_text())["environment"]["processes"] == 2
    first, second = (json.loads((folder / f"process{process}.json").read_text()) for process in (0, 1))
    assert first == second
    assert first["folder"] == str(folder)


def test_a_search_of_two_processes_trains_as_one_does(alone: Path, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    space = ["hydra.sweeper.params=null", "seed=1,2", "hydra.sweeper.n_trials=2"]
    done = run(tmp_path, "-m", "sweep=optuna", *TWO, *space, "hydra.sweep.dir=sweep")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("epoch   1 ") == 2  # a line a job: the first process alone speaks
    jobs = sorted(path.parent for path in tmp_path.rglob("report.json"))
    assert jobs == sorted(path.parent for path in tmp_path.rglob("checkpoints"))
    assert len(jobs) == 2
    assert not (tmp_path / "outputs").exists()
    for seed, job in enumerate(jobs, start=1):
        check_agreed(job)
        assert json.loads((job / "process1.json").read_text())["config"]["seed"] == seed
    check_same(jobs[0], alone)


def test_torchrun_makes_one_run(alone: Path, tmp_path: Path) -> None:
    torchrun = str(Path(sys.executable).with_name("torchrun"))
    done = run_script(
        *(torchrun, "--nproc-per-node=2", "--standalone", str(SCRIPT)),
        *("seed=1", "trainer=ddp", "hydra.run.dir='runs/${now:%f}'", *OPTIONS),
        folder=tmp_path,
        environment={"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch   1 ") == 1
    (folder,) = (tmp_path / "runs").iterdir()
    check_agreed(folder)
    check_same(folder, alone)


def test_one_process_goes_on_where_two_were_stopped(alone: Path, tmp_path: Path) -> None:
    options = ["trainer=fsdp", "trainer.devices=2", "name=preempted", "hydra.run.dir=run"]
    done = run(tmp_path, "seed=1", *options)
    assert (done.returncode, done.stderr) == (143, "")
    assert read(tmp_path / "run" / "checkpoints" / "last.ckpt")["global_step"] == 4
    done = run(tmp_path, "resume=run", "trainer.devices=1", "trainer.strategy=auto")
    assert (done.returncode, done.stderr) == (0, "")
    assert "resuming after epoch 1 and 1 batches of the next" in done.stdout
    assert (tmp_path / "run" / "predictions.png").exists()
    check_same(tmp_path / "run", alone)


def test_a_process_that_dies_ends_the_run(tmp_path: Path) -> None:
    start = time.monotonic()
    done = run(tmp_path, *TWO, "name=doomed", "hydra.run.dir=run")
    assert done.returncode == 2, done.stderr
    assert "error: Process 1 of the run ended by signal SIGKILL" in done.stderr
    assert time.monotonic() - start < 60 or os.getloadavg()[0] > 3
