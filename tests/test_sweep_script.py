"""Sweeps and searches that are killed, and go on when their command is given again."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT
from scripts import Done, Script, run_script

# Each job notes that it ran. The one whose number stands in the file `kill` ends the process as a power cut would.
# With a file `slow` all of them take long.
JOB = """
import json, os, signal, sys, time, yaml
from pathlib import Path
from segmentation.cli import script
from segmentation.errors import UserError


@script("train")
def main(config, folder):
    "A job that does what a run does to its folder."
    if config["loss"]["name"] == "lovasz":
        raise UserError("no good")
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / "checkpoints" / "last.ckpt").write_text("weights")
    with open("ran.txt", "a") as file:
        file.write(f"{folder.name} {'on' if config['resume'] else 'anew'}\\n")
    if Path("kill").exists() and len(Path("ran.txt").read_text().splitlines()) == int(Path("kill").read_text()):
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60 if Path("slow").exists() else 0)
    value = 1 - abs(config["optimizer"]["lr"] - 0.003)
    (folder / "report.json").write_text(json.dumps({"metrics": {"val/miou": value}}))
    return value


if __name__ == "__main__":
    main()
"""


def start(folder: Path, *arguments: str) -> Script:
    (folder / "job.py").write_text(JOB)
    return Script([str(folder / "job.py"), "-m", *arguments], folder)


def run(folder: Path, *arguments: str) -> Done:
    (folder / "job.py").write_text(JOB)
    return run_script(str(folder / "job.py"), "-m", *arguments, folder=folder)


def ran(folder: Path) -> list[str]:
    """What the jobs noted since the last time."""
    noted = lines(folder)
    (folder / "ran.txt").write_text("")
    return noted


def lines(folder: Path) -> list[str]:
    path = folder / "ran.txt"
    return path.read_text().splitlines() if path.exists() else []


def wait_for(happened: Callable[[], bool], process: Script) -> None:
    deadline = time.monotonic() + 300
    while not happened():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


def test_the_same_command_runs_exactly_what_is_missing(tmp_path: Path) -> None:
    sweep = ["name=s", "loss=ce_dice,lovasz", "seed=1,2,3"]
    (tmp_path / "kill").write_text("2")
    assert run(tmp_path, *sweep).returncode == -signal.SIGKILL
    assert ran(tmp_path) == ["loss-ce_dice+seed-1 anew", "loss-ce_dice+seed-2 anew"]
    (tmp_path / "kill").unlink()
    done = run(tmp_path, *sweep)
    assert done.returncode == 2
    assert ran(tmp_path) == ["loss-ce_dice+seed-2 on", "loss-ce_dice+seed-3 anew"]
    assert "6 jobs: 1 finished before, 1 went on, 1 ran, 3 failed" in done.stdout
    assert done.stderr.count("no good") == 6  # each when it failed, and in the list at the end
    assert "name=s" not in done.stdout  # what all jobs share is nothing to tell of each
    # Other options in the same folders are refused, and what is there stays what it is.
    done = run(tmp_path, "name=s", "seed=1,3", "loss=ce_dice,cross_entropy", "trainer.max_epochs=31")
    assert done.returncode == 2
    assert "now 31): give another name=NAME." in done.stderr.splitlines()[-1]
    assert len(ran(tmp_path)) == 2
    folder = tmp_path / "outputs" / "sweeps" / "s" / "loss-ce_dice+seed-1"
    assert not (folder / "error.txt").exists()
    assert "max_epochs" not in (folder / ".hydra" / "overrides.yaml").read_text()


def test_jobs_in_processes_of_their_own(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    parallel = [
        "name=s",
        "loss=ce_dice,lovasz",
        "seed=1",
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=2",
    ]
    done = run(tmp_path, *parallel)
    assert done.returncode == 2, done.stderr
    assert ran(tmp_path) == ["loss-ce_dice anew"]
    assert done.stderr.splitlines()[-2] == "1 of 2 jobs failed:"


PARALLEL = ["name=s", "seed=1,2,3", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_jobs_of_all_processes_and_the_same_command_goes_on(
    number: int, tmp_path: Path
) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    (tmp_path / "slow").touch()
    with start(tmp_path, *PARALLEL) as command:
        wait_for(lambda: len(lines(tmp_path)) == 2, command)
        if number == signal.SIGINT:
            os.killpg(command.pid, number)  # as a terminal does
        else:
            command.send_signal(number)
        out, err = command.communicate(timeout=30)  # their pipes are closed, so they are gone
    assert (command.returncode, err) == (128 + number, "")
    assert "2 jobs: 2 cut off, in " in out
    assert "The same command goes on where it stopped." in out
    assert sorted(ran(tmp_path)) == ["seed-1 anew", "seed-2 anew"]
    if number == signal.SIGINT:
        return  # the same is left behind
    (tmp_path / "slow").unlink()
    done = run(tmp_path, *PARALLEL)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(ran(tmp_path)) == ["seed-1 on", "seed-2 on", "seed-3 anew"]


def test_a_killed_process_of_a_launcher_is_told_in_a_line(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    (tmp_path / "kill").write_text("1")
    done = run(tmp_path, "name=s", "seed=1", *PARALLEL[2:])
    assert done.returncode == 128 + signal.SIGKILL
    assert done.stderr.startswith("error: a process of the launcher was killed")
    assert len(done.stderr.splitlines()) == 1
    assert "1 jobs: 1 cut off, in" in done.stdout


def test_a_job_without_a_needed_value_stops_no_other(tmp_path: Path) -> None:
    done = run(tmp_path, "name=s", "dataset=voc,shapes")
    assert done.returncode == 2
    assert ran(tmp_path) == ["dataset-shapes anew"]
    assert done.stderr.splitlines()[-1].endswith("dataset.root is missing: give dataset.root=VALUE.")


SEARCH = ["name=s", "sweep=optuna", "loss=ce_dice", "hydra.sweeper.n_trials=3"]


def test_a_search_goes_on_where_it_stopped(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    (tmp_path / "kill").write_text("2")
    assert run(tmp_path, *SEARCH).returncode == -signal.SIGKILL
    cut_off = ran(tmp_path)[-1].split()[0]
    (tmp_path / "kill").unlink()
    done = run(tmp_path, *SEARCH)
    assert (done.returncode, done.stderr) == (0, "")
    after = ran(tmp_path)
    # One was finished, so two remain: first the one that was cut off, and no proposal twice.
    assert after[0] == f"{cut_off} on"
    assert len({line.split()[0] for line in after}) == len(after) == 2
    values = {
        path.parent: json.loads(path.read_text())["metrics"]["val/miou"]
        for path in (tmp_path / "outputs" / "sweeps" / "s").glob("*/report.json")
    }
    assert len(values) == 3
    best = max(values, key=lambda folder: values[folder])
    assert done.stdout.splitlines()[-1].startswith("to compare them: ")
    told = done.stdout.splitlines()[-3:-1]
    assert told[0].startswith(f"best of 4 trials: {values[best]:.4f}, in outputs/sweeps/s/{best.name};")
    assert told[1].split()[:4] == ["python", "job.py", "name=s", "loss=ce_dice"]
    assert {f"{part.partition('=')[0]}-{part.partition('=')[2]}" for part in told[1].split()[4:]} == set(
        best.name.split("+")
    )
    done = run(tmp_path, *SEARCH)
    assert ran(tmp_path) == []
    done = run(tmp_path, *SEARCH, "seed=1")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "seed=not given, now 1" in done.stderr


def test_a_search_in_which_nothing_comes_to_a_value_says_so(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    done = run(tmp_path, "name=s", "sweep=optuna", "loss=lovasz", "hydra.sweeper.n_trials=2")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-3] == "2 of 2 jobs failed:"


SMALL = [
    *(
        "backbone=mobilenetv3_small",
        "head=fcn",
        "dataset.size=48",
        "dataset.train=6",
        "dataset.val=2",
        "dataset.test=2",
    ),
    *(
        "data.size=[48,48]",
        "data.batch_size=2",
        "data.workers=0",
        "precision=32-true",
        "callbacks.grid.images=0",
    ),
]


def test_a_real_sweep_killed_in_its_second_job(tmp_path: Path) -> None:
    command = [str(ROOT / "train.py"), "-m", "name=s", "seed=1,2", "trainer.max_epochs=3", *SMALL]
    folder = tmp_path / "outputs" / "sweeps" / "s"
    with Script(command, tmp_path) as process:
        wait_for((folder / "seed-2" / "checkpoints" / "last.ckpt").exists, process)
        process.send_signal(signal.SIGKILL)
    first = (folder / "seed-1" / "report.json").read_bytes()
    assert not (folder / "seed-2" / "report.json").exists()
    done = run_script(*command, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 jobs: 1 finished before, 1 went on" in done.stdout
    assert "resuming after epoch" in done.stdout
    assert (folder / "seed-1" / "report.json").read_bytes() == first
    rows = (folder / "seed-2" / "metrics.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == ["1", "2", "3"]
