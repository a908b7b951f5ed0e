"""Processes that srun, torchrun or the command itself start for one job: the first composes it for all."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from filelock import FileLock
from scripts import Done, Script, run_script
from torch.distributed import TCPStore

from segmentation.cli import launch
from segmentation.cli.launch import processes_to_start, refuse_sweep
from segmentation.cli.messages import explain
from segmentation.errors import UserError

# What srun starts as each of its tasks: a command that only the first one composes.
TASK = """
import os
from segmentation.cli import script


@script("train")
def main(config, folder):
    "A job that every task runs."
    number = os.environ["SLURM_PROCID"]
    (folder / f"task{number}.txt").write_text(f"{config['seed']} {folder} {os.environ['MASTER_PORT']}")
    return 1.0


if __name__ == "__main__":
    main()
"""


def run(folder: Path, seeds: tuple[int, int], **settings: str) -> list[Done]:
    (folder / "task.py").write_text(TASK)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    slurm = {
        "SLURM_JOB_ID": str(number),
        "SLURM_STEP_ID": "0",
        "SLURM_NTASKS": "2",
        "SLURM_JOB_NAME": "train",
        "MASTER_ADDR": "127.0.0.1",
        **settings,
    }
    command = [str(folder / "task.py"), "hydra.run.dir=run"]
    with ExitStack() as stack:
        tasks = [
            stack.enter_context(
                Script([*command, f"seed={seed}"], folder, {**slurm, "SLURM_PROCID": str(place)})
            )
            for place, seed in enumerate(seeds)
        ]
        ends = [task.communicate(timeout=120) for task in tasks]
        return [
            subprocess.CompletedProcess(command, task.wait(), *end)
            for task, end in zip(tasks, ends, strict=True)
        ]


EACH = {"SLURM_NTASKS_PER_NODE": "2"}


def test_all_tasks_do_the_job_of_the_first(tmp_path: Path) -> None:
    first, second = run(tmp_path, (1, 5), **EACH)
    assert (first.returncode, first.stderr, second.returncode, second.stderr) == (0, "", 0, "")
    told = {(tmp_path / "run" / f"task{place}.txt").read_text() for place in (0, 1)}
    assert len(told) == 1
    assert told.pop().startswith(f"1 {tmp_path / 'run'} ")


def test_no_task_waits_for_a_first_that_fails(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with FileLock(tmp_path / "run" / ".lock"):
        first, second = run(tmp_path, (1, 1), **EACH)
    assert first.returncode == 2
    assert "another command is writing this run" in first.stderr
    assert (second.returncode, second.stderr) == (0, "")
    assert not list(tmp_path.glob("run/task*"))


@pytest.mark.parametrize("waits", [True, False])
def test_no_task_waits_in_a_job_after_the_first_has_ended(
    waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    monkeypatch.setattr(launch, "_GRACE_S", 0.1 if waits else 60.0)
    monkeypatch.setattr(os, "_exit", lambda status: ended.set())
    first = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    store = TCPStore("127.0.0.1", first.port, is_master=False)
    with launch.ending_after_first(store):
        assert not ended.wait(1.2)
    del first  # the first process and its store are gone
    with launch.ending_after_first(store):
        assert ended.wait(10.0 if waits else 1.2) == waits


SRUN = {"SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_PROCID": "0"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "run", "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}


@pytest.mark.parametrize("started", [SRUN, TORCHRUN], ids=["srun", "torchrun"])
@pytest.mark.parametrize("first", [True, False])
def test_a_sweep_is_refused(started: dict[str, str], first: bool, tmp_path: Path) -> None:
    rank = {} if first else {name: "1" for name in ("SLURM_PROCID", "RANK", "LOCAL_RANK") if name in started}
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), "seed=1,2", "--multirun"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, **started, **rank},
        timeout=120,
    )
    if first:
        assert done.returncode == 2
        assert done.stderr.startswith("error: A sweep (-m) cannot run inside torchrun or srun.")
        assert "hydra/launcher=submitit_slurm" in done.stderr and "trainer.devices=N" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    else:
        assert (done.returncode, done.stderr) == (0, "")  # the first process alone speaks
    assert done.stdout == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("started", "arguments"),
    [
        (TORCHRUN, ["seed=1"]),
        ({**TORCHRUN, "WORLD_SIZE": "1"}, ["-m", "seed=1,2"]),
        ({"SLURM_NTASKS": "2"}, ["-m", "seed=1,2"]),  # in a batch script, beside its steps
        ({}, ["-m", "seed=1,2"]),
    ],
)
def test_what_is_no_sweep_of_several_processes_is_not_refused(
    started: dict[str, str], arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in started.items():
        monkeypatch.setenv(name, value)
    refuse_sweep(arguments)
    if arguments[0] != "-m":
        with pytest.raises(UserError, match="A sweep"):
            refuse_sweep([*arguments, "-m"])


@pytest.mark.parametrize(("place", "said"), [(TORCHRUN, True), ({}, False)])
def test_the_loss_of_another_process_is_said_in_a_line(
    place: dict[str, str], said: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    message = explain(RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer"))
    assert (message == "Another process of the run has ended before its time, and this one with it.") == said


def test_tasks_that_no_machine_was_chosen_for(tmp_path: Path) -> None:
    first, second = run(tmp_path, (1, 1))
    assert first.stderr.startswith("error: Slurm was asked for --ntasks=2")
    assert "give --ntasks-per-node=NUMBER" in first.stderr
    assert (second.returncode, second.stderr) == (2, "")


@pytest.mark.parametrize(
    ("trainer", "place", "number"),
    [
        ({"devices": 1}, {}, 1),
        ({"devices": 2, "accelerator": "cpu"}, {}, 2),
        ({"devices": "3", "accelerator": "cpu"}, {}, 3),
        ({"devices": "auto", "accelerator": "cpu"}, {}, 1),
        ({"devices": "many", "accelerator": "cpu"}, {}, 1),  # the job says that this is wrong
        ({"devices": 2, "accelerator": "cpu"}, TORCHRUN, 1),
        ({"devices": 2, "accelerator": "cpu"}, SRUN, 1),
    ],
)
def test_the_option_says_how_many_processes_are_started(
    trainer: dict[str, Any], place: dict[str, str], number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    assert processes_to_start({"trainer": trainer}) == number
    assert processes_to_start({"accelerator": "cpu", "trainer": {"devices": trainer["devices"]}}) == number
    assert processes_to_start({}) == 1


# A job of two processes, which ends as its seed says.
WORKERS = """
import os, sys, time
from segmentation.cli import script
from segmentation.errors import UserError


@script("train")
def main(config, folder):
    "A job that ends in many ways."
    number, seed = os.environ["RANK"], config["seed"]
    if seed == 1:
        raise UserError(f"seed {seed} is no good: 'x'")
    if seed == 2 and number == "1":
        sys.exit(7)
    if seed == 3:
        raise ValueError("a fault of ours")
    if seed == 4:
        (folder / f"begun{number}").touch()
        time.sleep(60)
    return float(number) + 0.5


if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize(
    ("seed", "status", "message"),
    [
        (0, 0, ""),
        (1, 2, "error: seed 1 is no good: 'x'\n"),
        (2, 2, "error: Process 1 of the run ended with exit status 7, and the others with it.\n"),
        (3, 1, "ValueError: a fault of ours"),
    ],
)
def test_what_a_process_raises_ends_the_command(seed: int, status: int, message: str, tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(WORKERS)
    options = [
        f"seed={seed}",
        "trainer=ddp",
        "trainer.devices=2",
        "trainer.accelerator=cpu",
        "hydra.run.dir=run",
    ]
    done = run_script(
        *(str(tmp_path / "job.py"), *options),
        folder=tmp_path,
        fresh=seed == 0,  # once with processes that are new Pythons, too
        environment={"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == status, done.stderr
    if status == 1:
        assert message in done.stderr and "Traceback" in done.stderr
    else:
        assert done.stderr == message


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_signals_reach_the_processes(number: int, tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(WORKERS)
    options = ["seed=4", "trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "hydra.run.dir=run"]
    with Script([str(tmp_path / "job.py"), *options], tmp_path) as command:
        deadline = time.monotonic() + 300
        while len(list(tmp_path.glob("run/begun?"))) < 2:
            assert command.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        if number == signal.SIGINT:
            os.killpg(command.pid, number)  # as a terminal does
        else:
            command.send_signal(number)
        out, err = command.communicate(timeout=60)  # their pipes are closed, so they are gone
    assert (command.returncode, err) == (128 + number, "")
    assert out == "interrupted before there was anything to resume\n"


@pytest.mark.parametrize(
    ("asked", "threads"), [(None, 2), ("1", 4)], ids=["by themselves", "as the user says"]
)
def test_processes_share_the_threads(
    asked: str | None, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if asked is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        launch._share_threads(2)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
