"""Tasks that a launcher has started for one job: the first alone leads, and the others learn the job from it."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import ROOT
from filelock import FileLock
from torch.distributed import HashStore, TCPStore

from segmentation.cli import launch
from segmentation.cli.launch import leading, refuse_sweep
from segmentation.errors import UserError

# What a launcher does in each of its tasks. Where another command holds the folder, the first never comes to the
# job itself.
TASK = """
import os, pickle, sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict
from job import job
from segmentation.cli.compose import CONF
from segmentation.cli.jobs import Jobs
from segmentation.cli.ranks import leading

with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
    composed = hydra.compose("train", [f"seed={sys.argv[1]}"], return_hydra_config=True)
with open_dict(composed):
    composed.hydra.runtime.output_dir = os.getcwd()
HydraConfig.instance().set_config(composed)
with open_dict(composed):
    del composed["hydra"]
place = dict(os.environ)
os.environ.pop("SLURM_STEP_ID")  # the command itself is no task
with leading(job) as told:
    sent = pickle.dumps(Jobs(told, None, None, quiet=True))
os.environ |= place
pickle.loads(sent)(composed)
"""

JOB = """
import os


def job(config, folder):
    place = os.environ["SLURM_PROCID"]
    (folder / f"task{place}.txt").write_text(f"{config['seed']} {folder} {os.environ['MASTER_PORT']}")
    return 1.0
"""


Done = subprocess.CompletedProcess[str]


def run(folder: Path, seeds: tuple[int, int], **settings: str) -> list[Done]:
    (folder / "job.py").write_text(JOB)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    slurm = {
        "SLURM_JOB_ID": str(number),
        "SLURM_STEP_ID": "0",
        "SLURM_NTASKS": "2",
        "SLURM_JOB_NAME": "train",
        "MASTER_ADDR": "127.0.0.1",
        "PYTHONPATH": f"{ROOT}:{folder}",
        **settings,
    }
    tasks = [
        subprocess.Popen(
            [sys.executable, "-c", TASK, str(seed)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={**os.environ, **slurm, "SLURM_PROCID": str(place)},
        )
        for place, seed in enumerate(seeds)
    ]
    ends = [task.communicate(timeout=120) for task in tasks]
    return [
        subprocess.CompletedProcess(task.args, task.returncode, *end)
        for task, end in zip(tasks, ends, strict=True)
    ]


EACH = {"SLURM_NTASKS_PER_NODE": "2"}


def test_all_tasks_do_the_job_of_the_first(tmp_path: Path) -> None:
    first, second = run(tmp_path, (1, 5), **EACH)
    assert (first.returncode, first.stderr, second.returncode, second.stderr) == (0, "", 0, "")
    told = {(tmp_path / f"task{place}.txt").read_text() for place in (0, 1)}
    assert len(told) == 1
    assert told.pop().startswith(f"1 {tmp_path} ")


def test_no_task_waits_for_a_first_that_fails(tmp_path: Path) -> None:
    with FileLock(tmp_path / ".lock"):
        first, second = run(tmp_path, (1, 1), **EACH)
    assert first.returncode == 1
    assert "another command is writing this run" in first.stderr
    assert (second.returncode, second.stderr) == (0, "")
    assert not list(tmp_path.glob("task*"))


@pytest.mark.parametrize("waits", [True, False])
def test_no_task_waits_in_a_job_that_the_first_has_ended(
    waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    monkeypatch.setattr(launch, "_GRACE_S", 0.1 if waits else 60.0)
    monkeypatch.setattr(os, "_exit", lambda status: ended.set())
    store = HashStore()
    with launch.no_longer_than_first(store):
        assert not ended.wait(1.2)
    launch.tell_over(store)
    with launch.no_longer_than_first(store):
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


def test_the_loss_of_another_process_is_said_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def job(config: object, folder: Path) -> float:
        raise RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer")

    agent = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    torchrun = {
        "TORCHELASTIC_RUN_ID": "run",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "WORLD_SIZE": "2",
        "RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(agent.port),
    }
    for name, value in torchrun.items():
        monkeypatch.setenv(name, value)
    with leading(job) as told, pytest.raises(UserError, match="Another process of the run has ended"):
        told({}, tmp_path)


def test_tasks_that_no_machine_was_chosen_for(tmp_path: Path) -> None:
    first, second = run(tmp_path, (1, 1))
    assert "UserError: Slurm was asked for --ntasks=2" in first.stderr
    assert "give --ntasks-per-node=NUMBER" in first.stderr
    assert (second.returncode, second.stderr) == (2, "")
