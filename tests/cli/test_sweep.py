"""Jobs of a sweep that fail stop no other, and the sweep says what became of all."""

from pathlib import Path

import pytest
from filelock import FileLock
from scripts import Done, Script, run_script

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


def start(folder: Path, *arguments: str) -> Script:
    (folder / "job.py").write_text(SCRIPT)
    return Script([str(folder / "job.py"), *arguments], folder)


def run(folder: Path, *arguments: str) -> Done:
    (folder / "job.py").write_text(SCRIPT)
    return run_script(str(folder / "job.py"), *arguments, folder=folder)


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
