"""A sweep (`-m`): its folder, the names of its jobs' folders, its jobs, and the state of each."""

import contextlib
import hashlib
import json
import logging
import math
import re
import shlex
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import hydra
from filelock import FileLock, Timeout
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from segmentation.cli import launch
from segmentation.cli.messages import explain, rank, short_messages
from segmentation.cli.overrides import (
    CONF,
    Command,
    Gather,
    Job,
    as_plain_data,
    quoted,
    without_leftovers,
    without_training,
)
from segmentation.cli.resume import resume_job
from segmentation.cli.run_folder import keep_config, waiting_writer
from segmentation.errors import UserError, closest
from segmentation.writing import no_link, refuse_links, write_text

if TYPE_CHECKING:
    from segmentation.cli.search import Search

log = logging.getLogger(__name__)

_MULTIRUN = "hydra.mode=MULTIRUN"
_LISTS = (ValueType.CHOICE_SWEEP, ValueType.SIMPLE_CHOICE_SWEEP)

_LONGEST = 120  # file systems allow 255 bytes
_AWKWARD = re.compile(r"[^\w.+-]+")
_PART = re.compile(r"\$\{(\w+)[^}]*\}")
_NUMBERS = re.compile(r"\[[\d.,-]*\]")

_KEPT_BY_JOB = (
    "hydra.output_subdir=null",
)  # a job writes .hydra itself, once it knows what its folder holds
_WORKER_DIED = (
    "a process of the launcher was killed, as the system does when memory runs out, and the jobs beside it ended"
    " with it. Give the same command again, where it was memory with fewer hydra.launcher.n_jobs."
)


# ---- what it is ----


@dataclass(frozen=True)
class Sweep:
    """A sweep's folder and config, the overrides that all jobs share and those that differ, by key."""

    folder: Path
    shared: dict[str, Override]
    swept: dict[str, Override]
    config: DictConfig
    command: Command
    jobs: int | None = None
    """How many there are; None where a sweeper of another package decides it."""

    def arguments(self, more: Sequence[str] = ()) -> list[str]:
        """The command line with the sweep's folder fixed, and with `more`.

        Otherwise each job would compose the folder from its own options, and their sweep would be scattered.
        """
        keys = ",".join(map(quoted, self.shared))
        added = [
            f"hydra.sweep.dir={quoted(str(self.folder))}",
            f"hydra.job.config.override_dirname.exclude_keys=[{keys}]",
            *more,
        ]
        settled = {argument.partition("=")[0] for argument in added}
        kept = [each for each in self.command.overrides if each.partition("=")[0] not in settled]
        return [*self.command.flags, *added, *kept]

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Holds the folder; raises `UserError` where another command is running the sweep."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # Hydra opens a job's log before the job looks at its folder.
        refuse_links([*self.folder.iterdir(), *self.folder.glob("*/run.log")])
        try:
            # The system drops the lock of a process that dies, however it dies.
            with FileLock(self.folder / ".lock", timeout=0):
                yield
        except Timeout:
            raise UserError(
                f"{self.folder}: another command is running this sweep. Wait for its end."
            ) from None


def plan_sweep(arguments: Sequence[str], config_name: str) -> Sweep | None:
    """The sweep that these command line arguments ask for; None where they ask for something else.

    Raises Hydra's exceptions for what cannot be composed, and `UserError` for an option of a group that does not
    exist, for `resume=` in a sweep and for `sweep=` without `-m`.
    """
    command = Command.parse(arguments, config_name)
    given = command.given
    if given.cfg or given.info or given.hydra_help:
        return None
    if not (given.multirun or _MULTIRUN in command.overrides):
        _refuse_search(command.overrides)
        return None
    overrides = OverridesParser.create().parse_overrides(list(command.overrides))
    fixed = [override for override in overrides if not override.is_sweep_override()]
    with command.config_loader() as loader:
        groups = _groups(command, loader, overrides)
    # An option may belong to the choices of a group, so one of these is needed to compose it.
    first = [f"{group}={values[0]}" for group, values in groups.items()]
    config = command.compose([*[str(override.input_line) for override in fixed], *first])
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    searched = OverridesParser.create().parse_overrides(params)
    if config.hydra.runtime.choices["hydra/sweeper"] == "optuna":
        _refuse_both(searched, overrides)
    last = _last_by_key([*searched, *overrides])
    swept = {key: override for key, override in last.items() if override.is_sweep_override()}
    shared = {
        key: override
        for key, override in last.items()
        if key not in swept and not override.is_hydra_override()
    }
    _refuse_resume(shared)
    name_sweep(config, set(swept), () if "name" in shared else command.config_folders)
    config.hydra.sweep.dir = folder = str(config.hydra.sweep.dir)
    basic = config.hydra.runtime.choices["hydra/sweeper"] == "basic"
    jobs = _count(command, swept.values()) if basic else None
    return Sweep(Path(folder), shared, swept, config, command, jobs)


def _count(command: Command, swept: Iterable[Override]) -> int:
    """The number of combinations of the swept values."""
    lines = [str(override.input_line) for override in swept]
    with command.config_loader() as loader:  # a glob needs it
        parsed = OverridesParser.create(loader).parse_overrides(lines)
        return math.prod(sum(1 for _ in override.sweep_string_iterator()) for override in parsed)


def _groups(command: Command, loader: ConfigLoader, overrides: Sequence[Override]) -> dict[str, list[str]]:
    """The groups that are swept over lists of their options, with these; raises `UserError` for unknown ones.

    A group's name is as it was typed, with a `+` where it has one.
    """
    groups: dict[str, list[str]] = {}
    for override in overrides:
        if override.value_type not in _LISTS or override.package is not None:
            continue
        group = override.key_or_group
        found = command.group_options(loader, group) if "." not in group else []
        known = [name for name in found if not name.startswith("_")]
        if not known:
            continue
        values = groups[override.get_key_element()] = list(override.sweep_string_iterator())
        for value in values:
            if value.strip("'\"") not in {*known, "null"}:
                raise UserError(f"{group}={value} is unknown.{closest(value, known)}")
    return groups


def _last_by_key(overrides: Sequence[Override]) -> dict[str, Override]:
    """The overrides by key, in order; of two with the same key the last one holds, as in Hydra."""
    last: dict[str, Override] = {}
    for override in overrides:
        last.pop(_key(override), None)
        last[_key(override)] = override
    return last


def _refuse_both(searched: Sequence[Override], overrides: Sequence[Override]) -> None:
    fixed = {_key(each): each for each in [*searched, *overrides] if not each.is_sweep_override()}
    for override in overrides:
        if override.is_sweep_override() and (other := fixed.get(_key(override))):
            raise UserError(
                f"{other.input_line} settles for all trials what {override.input_line} looks for: leave one out."
            )


def _refuse_resume(shared: dict[str, Override]) -> None:
    if "resume" in shared and shared["resume"].value() is not None:
        raise UserError(
            "resume is for one run: a sweep goes on when its command is given again. Leave it out."
        )


def _refuse_search(overrides: Sequence[str]) -> None:
    for override in overrides:
        if override.startswith("sweep=") and override != "sweep=null":
            raise UserError(f"{override} is for many runs: add -m (--multirun).")


def _key(override: Override) -> str:
    return str(override.get_key_element()).lstrip("+~")


# ---- the names of its jobs' folders ----


def own_overrides(overrides: Sequence[str], shared: Collection[str]) -> list[str]:
    """The overrides that differ between jobs, ordered by key; all of them where none differs."""
    own = [override for override in overrides if _key_of(override) not in shared]
    return sorted(own or overrides, key=_key_of)


def job_folder(overrides: Sequence[str], shared: Collection[str]) -> str:
    """The name of a job's folder, from its own overrides: `backbone-resnet18+seed-1`.

    It needs no quotes in a shell or in an option, unlike Hydra's own `override_dirname`, which keeps `/`, `[` and
    spaces and any length. Values with such characters, and long names, get a hash.
    """
    name = "+".join(map(_name_of, own_overrides(overrides, shared))) or "job"
    if len(name) <= _LONGEST:
        return name
    return f"{name[:_LONGEST]}-{_hash(name)}"


def name_sweep(config: DictConfig, swept: Collection[str], config_folders: Sequence[Path]) -> None:
    """Removes from the config's name, which refers to options, those that differ between the jobs.

    `swept` are the keys that differ. Where a swept group has files that may write anywhere, any of these may set the
    name, and nothing of it is kept.
    """
    raw = OmegaConf.to_container(config, resolve=False)
    name = raw.get("name") if isinstance(raw, dict) else None
    if not isinstance(name, str):
        return
    groups = {key.partition(".")[0] for key in swept}
    others = groups - set(_PART.findall(name))
    files = [
        file for folder in config_folders for group in others for file in (folder / group).glob("*.yaml")
    ]
    if any(file.read_text().startswith("# @package _global_") for file in files):
        name = ""
    kept = _PART.sub(lambda match: "" if match[1] in groups else match[0], name)
    config.name = kept.strip("_") or "sweep"


def _key_of(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _name_of(override: str) -> str:
    value = override.partition("=")[2]
    plain = _AWKWARD.sub("_", value).strip("_")
    # val/loss and val_loss are two jobs; a list of numbers is no other value's name.
    name = plain if plain == value or _NUMBERS.fullmatch(value) else f"{plain}-{_hash(value)}"
    return f"{_AWKWARD.sub('_', _key_of(override))}-{name}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


# A launcher's processes import this file with the jobs that they get, and compose the folder names themselves.
OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)


# ---- the state of its jobs ----


Outcome = Literal["begun", "ran", "went on", "finished before", "cut off", "failed"]

_KILLED = 128 + signal.SIGKILL  # what a shell says of it


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


# ---- running it ----


def run_sweep(sweep: Sweep, job: Job, gather: Gather | None, config_name: str, *, quiet: bool) -> None:
    """Runs every job that is not finished yet and prints what became of all; ends the process where one failed.

    `quiet` shortens a user's mistake to one line.
    """
    from segmentation.cli.search import Search

    with sweep.alone():
        search = Search.of(sweep)
        sys.argv[1:] = sweep.arguments([*_KEPT_BY_JOB, *(search.arguments if search else ())])
        _silence_launchers()
        folder = sweep.folder.absolute()
        jobs = search.missing if search else sweep.jobs
        sweep_job = SweepJob(job, gather, config_name, folder, list(sweep.shared), jobs, quiet=quiet)
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


def _run_jobs(job: "SweepJob", search: "Search | None") -> int:
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


class SweepJob:
    """A job as Hydra's task function, also in the processes of a launcher.

    A failure is reported at once on stderr, kept in the job's folder as `error.txt`, and stops no other job. A job
    with an option `resume` is not run again where it is finished, and goes on where it was cut off.
    """

    def __init__(
        self,
        job: Job,
        gather: Gather | None,
        config_name: str,
        folder: Path,
        shared: Sequence[str],
        jobs: int | None = None,
        *,
        quiet: bool,
    ) -> None:
        self.config_name = config_name
        self.ledger = Ledger(folder)
        self.quiet = quiet
        self._job = job
        self._gather = gather
        self._folder = folder
        self._shared = shared
        self._jobs = jobs

    def __call__(self, composed: DictConfig) -> float | None:
        """The job's value; None where it failed or has no number.

        Of several tasks that a launcher started for the job, the first does all this, and the others follow it.
        """
        if rank() > 0:
            launch.follow(self._job)
            return None
        about = HydraConfig.get()
        of = "" if self._jobs is None else f" of {self._jobs}"
        name = f"job {about.job.num + 1}{of} ({' '.join(own_overrides(about.overrides.task, self._shared))})"
        # Hydra would print the overrides above an exception that passes through it.
        with short_messages(self.quiet), launch.announcing() as announce:
            value = self._attempt(composed, Path(about.runtime.output_dir), name, announce)
            if self._gather is not None:
                self._gather(self._folder)
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
        # The files of conf/dataset bring values for training, which a checkpoint has already.
        composed, notes = without_leftovers(composed, HydraConfig.get())
        for note in notes:
            log.info("note: %s", note)
        composed = without_training(composed, CONF, self.config_name)
        config, value = as_plain_data(composed), None
        if "resume" in config:
            config, value = resume_job(config, folder)
        if value is not None:
            return value, "finished before"
        keep_config(folder, composed)
        announce(config, folder)
        if (processes := launch.processes_to_start(config)) > 1:
            value = launch.run_in_processes(self._job, config, folder, processes, launch.log_config())
        else:
            value = self._job(config, folder)
        return value, "went on" if config.get("resume") else "ran"
