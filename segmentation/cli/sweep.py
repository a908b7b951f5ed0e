"""Running a sweep (`-m`): its jobs in turn or in a launcher's processes, the state of each, and the summary."""

import json
import logging
import math
import shlex
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import hydra
from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig

from segmentation.cli import launch
from segmentation.cli.auto import with_job_recognised
from segmentation.cli.messages import explain, rank, short_messages
from segmentation.cli.overrides import CONF, Gather, Job, as_plain_data, given_keys, own_config
from segmentation.cli.resume import resume_job
from segmentation.cli.run_folder import keep_config, waiting_writer
from segmentation.cli.search import Search
from segmentation.cli.sweep_plan import Sweep, own_overrides
from segmentation.writing import no_link, write_text

log = logging.getLogger(__name__)

# A job writes .hydra itself, once it knows what its folder holds.
_KEPT_BY_JOB = ("hydra.output_subdir=null",)
_WORKER_DIED = (
    "a process of the launcher was killed, as the system does when memory runs out, and the jobs beside it ended"
    " with it. Give the same command again, where it was memory with fewer hydra.launcher.n_jobs."
)

Outcome = Literal["begun", "ran", "went on", "finished before", "cut off", "failed"]

_KILLED = 128 + 9  # what a shell says of SIGKILL, which not every system has


@dataclass(frozen=True)
class Entry:
    """The state of a job; `status` is the exit status that it asks for, `reason` says why it failed."""

    name: str
    outcome: Outcome
    status: int = 0
    reason: str = ""


class Ledger:
    """The states of a sweep's jobs, as lines of a file in its folder, which a launcher's processes can reach too.

    A job adds an entry when it begins and another when it ends.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / ".jobs"
        self._lock = folder / ".jobs.lock"

    def open(self) -> None:
        """Starts without entries."""
        write_text(self._path, "")

    def add(self, entry: Entry) -> None:
        """Appends the entry, under a lock: on a network disk, two processes could write into each other's lines."""
        line = json.dumps(asdict(entry)) + "\n"
        with FileLock(self._lock), open(self._path, "a", opener=no_link) as file:
            file.write(line)

    def entries(self) -> list[Entry]:
        """The latest entry of each job, in the order in which they ended."""
        latest: dict[str, Entry] = {}
        text = self._path.read_text() if self._path.exists() else ""
        for line in text.splitlines(keepends=True):
            if line.endswith("\n"):  # the last one may be on its way
                entry = Entry(**json.loads(line))
                latest.pop(entry.name, None)
                latest[entry.name] = entry
        return list(latest.values())

    def close(self) -> list[Entry]:
        """The last entry of each job; removes the file. A job that never ended was cut off with its process."""
        entries = [
            replace(entry, outcome="cut off", status=_KILLED) if entry.outcome == "begun" else entry
            for entry in self.entries()
        ]
        self._path.unlink()
        self._lock.unlink(missing_ok=True)
        return entries


def print_summary(entries: list[Entry], folder: Path) -> int:
    """Prints how many jobs ended how, and which did not finish; returns the exit status of the sweep."""
    failed, cut_off = (
        [each for each in entries if each.outcome == outcome] for outcome in ("failed", "cut off")
    )
    if entries:
        counts = Counter(entry.outcome for entry in entries)
        listed = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        print(f"{len(entries)} jobs: {listed}, in {folder}", flush=True)  # noqa: T201
    if failed:
        lines = "".join(f"  {entry.name}: {entry.reason}\n" for entry in failed)
        sys.stderr.write(f"{len(failed)} of {len(entries)} jobs failed:\n{lines}")
    if cut_off:
        names = ", ".join(entry.name for entry in cut_off)
        print(f"cut off: {names}. The same command goes on where it stopped.", flush=True)  # noqa: T201
    # A fault of ours (1) comes before a user's mistake (2), and both before a signal.
    return min((entry.status for entry in failed + cut_off), default=0)


def run_sweep(sweep: Sweep, job: Job, gather: Gather | None, config_name: str, *, quiet: bool) -> None:
    """Runs every job that is not finished yet and prints what became of all; ends the process where one failed.

    `quiet` shortens a user's mistake to one line.
    """
    with sweep.alone():
        search = Search.of(sweep)
        sys.argv[1:] = sweep.arguments([*_KEPT_BY_JOB, *(search.arguments if search else ())])
        _silence_launchers()
        folder = sweep.folder.absolute()
        jobs = search.missing if search else sweep.jobs
        flags = sweep.command.config_flags
        sweep_job = SweepJob(job, gather, config_name, folder, list(sweep.shared), jobs, quiet, flags)
        sweep_job.ledger.open()
        status = 0
        try:
            status = _run_jobs(sweep_job, search)
        finally:
            entries = sweep_job.ledger.close()
            if gather is not None and (text := gather(folder)):
                print(text, flush=True)  # noqa: T201
            status = print_summary(entries, folder) or status
        if search:
            search.print_best()
        if config_name == "train" and any(entry.outcome not in ("failed", "cut off") for entry in entries):
            compare = shlex.join(["python", "leaderboard.py", f"runs={sweep.folder}"])
            print(f"to compare them: {compare}", flush=True)  # noqa: T201
    if status:
        sys.exit(status)


def _silence_launchers() -> None:
    """Each job announces itself; a launcher would repeat the overrides that all of them share."""
    for launcher in (
        "hydra._internal.core_plugins.basic_launcher",
        "hydra_plugins.hydra_joblib_launcher._core",
    ):
        logging.getLogger(launcher).setLevel(logging.WARNING)


def _run_jobs(job: "SweepJob", search: Search | None) -> int:
    """Lets Hydra run the jobs; returns the exit status, as far as it is not that of a job."""
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=job.config_name)(job)()
    except BrokenProcessPool:
        sys.stderr.write(f"error: {_WORKER_DIED}\n")
    except HydraException as error:
        # Values that make no config end the sweeper, too.
        if search is None or not (job.quiet and search.has_values):
            raise
        sys.stderr.write(f"error: {explain(error)} {search.ended}\n")
        return 2
    except ValueError:
        # The sweeper asks for the best trial even where all of them failed, which is reported later.
        if search is None or search.has_values or not job.ledger.entries():
            raise
    return 0


@dataclass(frozen=True, eq=False)
class SweepJob:
    """A job as Hydra's task function, also in the processes of a launcher.

    A failure is reported at once on stderr, kept in the job's folder as `error.txt`, and stops no other job. A job
    with an option `resume` is not run again where it is finished, and goes on where it was cut off.
    """

    job: Job
    gather: Gather | None
    config_name: str
    folder: Path
    shared: Sequence[str]
    jobs: int | None
    quiet: bool
    flags: Sequence[str] = ()

    @property
    def ledger(self) -> Ledger:
        """The states of the sweep's jobs."""
        return Ledger(self.folder)

    def __call__(self, composed: DictConfig) -> float | None:
        """The job's value; None where it failed or has no number.

        Of several tasks that a launcher started for the job, the first does all this, and the others follow it.
        """
        if rank() > 0:
            launch.follow(self.job)
            return None
        about = HydraConfig.get()
        of = "" if self.jobs is None else f" of {self.jobs}"
        name = f"job {about.job.num + 1}{of} ({' '.join(own_overrides(about.overrides.task, self.shared))})"
        # Hydra would print the overrides above an exception that passes through it.
        with short_messages(self.quiet), launch.announcing() as announce:
            value = self._attempt(composed, Path(about.runtime.output_dir), name, announce)
            if self.gather is not None:
                self.gather(self.folder)
        return value

    def _attempt(
        self, composed: DictConfig, folder: Path, name: str, announce: launch.Announce
    ) -> float | None:
        error_file = folder / "error.txt"
        self.ledger.add(Entry(name, "begun"))
        log.info("%s", name)
        try:
            with waiting_writer(folder):
                value, outcome = self._run(composed, folder, announce)
        except Exception as error:
            message = explain(error) if self.quiet else None
            reason = message or "".join(traceback.format_exception(error)).rstrip()
            if not (folder / "report.json").exists():
                write_text(error_file, f"{reason}\n")
            sys.stderr.write(f"error: {name}: {reason}\n")
            self.ledger.add(Entry(name, "failed", 1 if message is None else 2, reason.splitlines()[-1]))
            return None
        except (SystemExit, KeyboardInterrupt) as end:
            code = end.code if isinstance(end, SystemExit) else None
            self.ledger.add(Entry(name, "cut off", code if isinstance(code, int) else 128 + signal.SIGINT))
            raise
        error_file.unlink(missing_ok=True)
        log.info("%s %s", name, outcome)
        self.ledger.add(Entry(name, outcome))
        return None if math.isnan(value) else value

    def _run(self, composed: DictConfig, folder: Path, announce: launch.Announce) -> tuple[float, Outcome]:
        composed, recognised = with_job_recognised(composed, self.flags, self.config_name)
        for note in recognised:
            log.info("%s", note)
        composed, notes = own_config(composed, self.config_name)
        for note in notes:
            log.info("note: %s", note)
        config, value = as_plain_data(composed), None
        if "resume" in config:
            config, value = resume_job(config, folder)
        if value is not None:
            return value, "finished before"
        keep_config(folder, composed)
        if "plan" in config:
            config = {**config, "given": given_keys(HydraConfig.get())}
        announce(config, folder)
        value = launch.in_processes(self.job, config)(config, folder)
        return value, "went on" if config.get("resume") else "ran"
