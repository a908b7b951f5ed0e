"""Sweeps: their folders and those of their jobs, and jobs that fail, which stop no other."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from filelock import FileLock
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from segmentation.cli.sweep import job_folder, plan_sweep
from segmentation.errors import UserError


@pytest.mark.parametrize(
    ("overrides", "shared", "name"),
    [
        (["seed=1", "backbone=resnet18"], [], "backbone-resnet18+seed-1"),
        (
            ["backbone=resnet18", "seed=1", "dataset.root=/data/x"],
            ["dataset.root"],
            "backbone-resnet18+seed-1",
        ),
        (["seed=1", "name=a"], ["seed", "name"], "name-a+seed-1"),
        (["+loss.gamma=2.5", "data.size=[48,64]"], [], "data.size-48_64+loss.gamma-2.5"),
        (["dataset.root='/my data/camvid'"], [], "dataset.root-my_data_camvid-6ad7fe58"),
        (["optimizer.lr=1e-05"], [], "optimizer.lr-1e-05"),
        ([], [], "job"),
    ],
)
def test_names_say_what_tells_a_job_from_the_others(
    overrides: list[str], shared: list[str], name: str
) -> None:
    assert job_folder(overrides, shared) == name


def test_long_names_are_shortened_and_stay_apart() -> None:
    first, second = (job_folder(["dataset.root=/" + "long/" * 60 + end], []) for end in ("a", "b"))
    assert first != second
    assert max(len(first), len(second)) < 140
    assert first.startswith("dataset.root-long_long")


@pytest.mark.parametrize(
    "values", [("val/loss", "val_loss"), ("_a", "a"), ("a,b", "[a,b]"), ("", "''"), ("'a b'", "'a  b'")]
)
def test_jobs_that_differ_have_folders_of_their_own(values: tuple[str, str]) -> None:
    first, second = (job_folder([f"key={value}"], []) for value in values)
    assert first != second


@given(st.lists(st.tuples(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.text(max_size=60)), max_size=6))
def test_a_name_needs_no_quotes_anywhere(pairs: list[tuple[str, str]]) -> None:
    name = job_folder([f"{key}={value}" for key, value in pairs], [])
    assert re.fullmatch(r"[\w.+-]+", name)
    assert len(name.encode()) < 600 and "/" not in name


@pytest.mark.parametrize("name", ["backbone-resnet18+seed-1", "data.size-48_64+loss.gamma-2.5"])
def test_a_folder_can_be_given_to_an_option_as_it_is(name: str) -> None:
    (override,) = OverridesParser.create().parse_overrides([f"checkpoint=outputs/sweeps/x/{name}/best.ckpt"])
    assert override.value() == f"outputs/sweeps/x/{name}/best.ckpt"


@pytest.mark.parametrize(
    ("arguments", "folder", "shared"),
    [
        (["-m", "seed=1,2"], "outputs/sweeps/shapes_resnet18", []),
        (["-m", "seed=1,2", "backbone=resnet50"], "outputs/sweeps/shapes_resnet50", ["backbone"]),
        (["backbone=resnet18,resnet50", "-m"], "outputs/sweeps/shapes", []),
        (["-m", "backbone=resnet18,resnet50", "dataset=shapes,shapes_binary"], "outputs/sweeps/sweep", []),
        (["-m", "backbone=resnet18,resnet50", "name=mine"], "outputs/sweeps/mine", ["name"]),
        (["-m", "seed=range(3)", "hydra.sweep.dir=/tmp/here"], "/tmp/here", []),
        (["-m", "experiment=voc_resnet18_aux,camvid_resnet18"], "outputs/sweeps/sweep", []),
        (["-m", "experiment=glob(*)", "name=mine"], "outputs/sweeps/mine", ["name"]),
        (["-m", "trainer=default,debug"], "outputs/sweeps/shapes_resnet18", []),
        # Of two the last holds, as in Hydra.
        (["-m", "seed=3", "loss=focal", "seed=1,2"], "outputs/sweeps/shapes_resnet18", ["loss"]),
        (["-m", "seed=1,2", "loss=focal,dice", "seed=3"], "outputs/sweeps/shapes_resnet18", ["seed"]),
        # An option that only the swept choices have.
        (["-m", "loss=focal", "loss.gamma=1,2"], "outputs/sweeps/shapes_resnet18", ["loss"]),
        (["-m", "loss=choice(focal)", "loss.gamma=3"], "outputs/sweeps/shapes_resnet18", ["loss.gamma"]),
    ],
)
def test_a_sweep_has_one_folder(arguments: list[str], folder: str, shared: list[str]) -> None:
    sweep = plan_sweep(arguments, "train")
    assert sweep is not None
    assert (sweep.folder, list(sweep.shared)) == (Path(folder), shared)


@pytest.mark.parametrize("arguments", [["seed=1"], [], ["-m", "seed=1,2", "--cfg", "job"]])
def test_what_is_no_sweep_is_left_alone(arguments: list[str]) -> None:
    assert plan_sweep(arguments, "train") is None


def test_what_is_settled_replaces_what_was_typed() -> None:
    typed = [
        "-m",
        "sweep=optuna",
        "seed=1,2",
        "hydra.sweeper.n_trials=9",
        "hydra.sweep.dir=${name}",
        "name=x",
    ]
    sweep = plan_sweep(typed, "train")
    assert sweep is not None
    assert sweep.arguments(["hydra.sweeper.n_trials=3"]) == [
        *("-m", "hydra.sweep.dir='x'", "hydra.job.config.override_dirname.exclude_keys=['sweep','name']"),
        *("hydra.sweeper.n_trials=3", "sweep=optuna", "seed=1,2", "name=x"),
    ]


def test_resume_is_for_single_runs() -> None:
    with pytest.raises(UserError, match="for one run"):
        plan_sweep(["-m", "seed=1,2", "resume=outputs/x"], "train")


def test_a_search_is_for_sweeps() -> None:
    with pytest.raises(UserError, match="add -m"):
        plan_sweep(["sweep=optuna"], "train")


def test_two_commands_do_not_share_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py"])
    sweep = plan_sweep(["-m", "seed=1,2", f"hydra.sweep.dir={tmp_path}"], "train")
    assert sweep is not None
    with sweep.alone(), pytest.raises(UserError, match="another command"), sweep.alone():
        pass
    with sweep.alone():
        pass


SCRIPT = """
from segmentation.cli import script
from segmentation.errors import UserError


def gather(folder):
    return "gathered " + " ".join(sorted(path.read_text() for path in folder.glob("**/value.txt")))


@script("train", gather=gather)
def main(config, folder):
    "A job that some seeds fail."
    if config["seed"] == 1:
        raise UserError("seed 1 is no good")
    if config["seed"] > 4:
        (folder / "checkpoints").mkdir()
        if config["seed"] == 6:
            (folder / "checkpoints" / "last.ckpt").touch()
        raise SystemExit(143)
    if config["seed"] == 2:
        raise ValueError("a fault of ours")
    (folder / "value.txt").write_text(str(config["seed"]))
    return 1.0


if __name__ == "__main__":
    main()
"""


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    (folder / "job.py").write_text(SCRIPT)
    return subprocess.Popen(
        [sys.executable, str(folder / "job.py"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
    )


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    with start(folder, *arguments) as process:
        out, err = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.mark.parametrize(
    ("seeds", "status", "failures", "gathered"),
    [
        ("3,4", 0, [], "3 4"),
        ("1,3", 2, ["job 1 of 2 (seed=1): seed 1 is no good"], "3"),
        (
            "2,1,3",
            1,
            ["job 1 of 3 (seed=2): ValueError: a fault of ours", "job 2 of 3 (seed=1): seed 1 is no good"],
            "3",
        ),
    ],
)
def test_a_sweep_goes_on(seeds: str, status: int, failures: list[str], gathered: str, tmp_path: Path) -> None:
    done = run(tmp_path, "-m", f"seed={seeds}", "name=sweep")
    lines = done.stderr.splitlines()
    assert done.returncode == status
    assert f"gathered {gathered}" in done.stdout
    assert "HYDRA_FULL_ERROR" not in done.stderr and "Error executing job" not in done.stderr
    if not failures:
        assert lines == []
        return
    count = len(seeds.split(","))
    assert lines[-len(failures) - 1 :] == [
        f"{len(failures)} of {count} jobs failed:",
        *(f"  {failure}" for failure in failures),
    ]
    assert "error: job 1 of" in lines[0]
    assert ("Traceback (most recent call last):" in done.stderr) == (status == 1)
    if status == 2:
        assert len(lines) == 3
    reasons = {path.parent.name: path.read_text() for path in tmp_path.rglob("error.txt")}
    assert reasons["seed-1"] == "seed 1 is no good\n"
    assert len(reasons) == len(failures)


def test_a_job_that_waits_for_another_process_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "outputs" / "sweeps" / "s" / "seed-3"
    folder.mkdir(parents=True)
    lock = FileLock(folder / ".lock")
    said = []
    with lock, start(tmp_path, "-m", "name=s", "seed=3,4") as process:
        assert process.stdout
        for line in process.stdout:
            said.append(line)
            if "waiting" in line:
                lock.release()
    assert process.returncode == 0
    assert said[1] == f"waiting for another process, which is writing {folder}\n"
    assert said[-2].startswith("2 jobs: 2 ran, in ")
    assert said[-1] == "to compare them: python leaderboard.py runs=outputs/sweeps/s\n"


def test_what_was_cut_off_says_how_to_go_on(tmp_path: Path) -> None:
    for seed, told in {
        5: "interrupted before there was anything to resume",
        6: f"interrupted: resume={tmp_path}/6 goes on where it stopped",
    }.items():
        done = run(tmp_path, f"seed={seed}", f"hydra.run.dir={seed}")
        assert (done.returncode, done.stdout, done.stderr) == (143, f"{told}\n", "")


def test_a_single_run_fails_as_before(tmp_path: Path) -> None:
    done = run(tmp_path, "seed=1", "name=run")
    assert (done.returncode, done.stderr) == (2, "error: seed 1 is no good\n")
    done = run(tmp_path, "seed=3", "name=run")
    assert (done.returncode, done.stdout, done.stderr) == (0, "gathered 3\n", "")
