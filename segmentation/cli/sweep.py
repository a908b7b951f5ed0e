"""A sweep before its first job: one folder for all of it, what its jobs share, and what they differ by."""

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
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from omegaconf import DictConfig, OmegaConf

from segmentation.cli.command import Command
from segmentation.cli.launch import follow, is_follower, leading
from segmentation.cli.messages import explain
from segmentation.cli.overrides import Gather, Job, quoted
from segmentation.cli.resume import held, note, take_up
from segmentation.errors import UserError, closest

# MERGED FROM cli/folders: What the folders of a sweep are called: a person finds the job, and no shell or option ne
# MERGED FROM cli/ledger: What became of the jobs of a sweep, written down by whichever process ran them.
# MERGED FROM cli/jobs: The jobs of one command: alone, or the many of a sweep, where one that fails stops no other.

_LONGEST = 120  # file systems allow 255 bytes
_AWKWARD = re.compile(r"[^\w.+-]+")
_PART = re.compile(r"\$\{(\w+)[^}]*\}")
_NUMBERS = re.compile(r"\[[\d.,-]*\]")


def own_overrides(overrides: Sequence[str], shared: Collection[str]) -> list[str]:
    """The overrides that tell a job from the others, ordered by key; all of them where none does."""
    own = [override for override in overrides if _key_folders(override) not in shared]
    return sorted(own or overrides, key=_key_folders)


def job_folder(overrides: Sequence[str], shared: Collection[str]) -> str:
    """The name of a job's folder by its own overrides: `backbone-resnet18+seed-1`.

    Long names end in a hash of the whole, and values that a name cannot hold as they are in one of the value.
    """
    name = "+".join(map(_plain_folders, own_overrides(overrides, shared))) or "job"
    if len(name) <= _LONGEST:
        return name
    return f"{name[:_LONGEST]}-{_hash(name)}"


def name_sweep(config: DictConfig, swept: Collection[str], config_folders: Sequence[Path]) -> None:
    """Leaves out of the config's name what differs between the jobs: it is put together from options.

    `swept` are the jobs' own keys. A group of `config_folders` whose files may write anywhere may set the whole name.
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


def _key_folders(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _plain_folders(override: str) -> str:
    value = override.partition("=")[2]
    plain = _AWKWARD.sub("_", value).strip("_")
    # val/loss and val_loss are two jobs; a list of numbers is no other value's name.
    told = plain if plain == value or _NUMBERS.fullmatch(value) else f"{plain}-{_hash(value)}"
    return f"{_AWKWARD.sub('_', _key_folders(override))}-{told}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


# The processes of a launcher import this file with the jobs that they are sent, and name the folders there.
OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)


Outcome = Literal["begun", "ran", "went on", "finished before", "cut off", "failed"]

_KILLED = 128 + signal.SIGKILL  # what a shell says of it


@dataclass(frozen=True)
class Entry:
    """A job by its name; `status` is the exit status that it asks for, `reason` why it failed."""

    name: str
    outcome: Outcome
    status: int = 0
    reason: str = ""


class Ledger:
    """A file in the sweep's folder, a line an entry: a launcher's processes share nothing else with the command.

    A job has an entry when it begins, and another when it ends.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / ".jobs"
        self._lock = folder / ".jobs.lock"

    def open(self) -> None:
        """Begins with no entry."""
        self._path.write_text("")

    def add(self, entry: Entry) -> None:
        """Writes the entry down; several processes may do so at once, and on a network's disk appending is no unit."""
        from filelock import FileLock

        with FileLock(self._lock), self._path.open("a") as file:
            file.write(json.dumps(asdict(entry)) + "\n")

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
        """What all jobs came to; the file is gone. One that began and never ended was cut off with its process."""
        entries = [
            replace(entry, outcome="cut off", status=_KILLED) if entry.outcome == "begun" else entry
            for entry in self.entries()
        ]
        self._path.unlink()
        self._lock.unlink(missing_ok=True)
        return entries


def told(entries: list[Entry], folder: Path) -> int:
    """Prints how many jobs of the sweep in `folder` came to what, and which did not finish; gives the exit status."""
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
    # A fault of ours tells more than a mistake of the user's, and both more than a signal.
    return min((entry.status for entry in failed + cut_off), default=0)


_MULTIRUN = "hydra.mode=MULTIRUN"
_LISTS = (ValueType.CHOICE_SWEEP, ValueType.SIMPLE_CHOICE_SWEEP)


@dataclass(frozen=True)
class Sweep:
    """A sweep's folder and config, the overrides that its jobs share and those that tell them apart, by their keys."""

    folder: Path
    shared: dict[str, Override]
    swept: dict[str, Override]
    config: DictConfig
    command: Command

    def arguments(self, more: Sequence[str] = ()) -> list[str]:
        """The command line with its folder settled, and with `more`.

        A job would compose the folder's name from its own options, and a sweep over them would be scattered.
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
        """Holds the folder; raises `UserError` where another command is at work in it."""
        from filelock import FileLock, Timeout

        self.folder.mkdir(parents=True, exist_ok=True)
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
    exist, for `resume=` in a sweep and for `sweep=` without one.
    """
    command = Command.of(arguments, config_name)
    given = command.given
    if given.cfg or given.info or given.hydra_help:
        return None
    if not (given.multirun or _MULTIRUN in command.overrides):
        _refuse_search(command.overrides)
        return None
    typed_ones = OverridesParser.create().parse_overrides(list(command.overrides))
    fixed = [override for override in typed_ones if not override.is_sweep_override()]
    with command.loading() as loader:
        groups = _groups(command, loader, typed_ones)
    # An option may belong to the choices of a group, so one of these is needed to compose it.
    first = [f"{group}={values[0]}" for group, values in groups.items()]
    config = command.compose([*[str(override.input_line) for override in fixed], *first])
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    searched = OverridesParser.create().parse_overrides(params)
    if config.hydra.runtime.choices["hydra/sweeper"] == "optuna":
        _refuse_both(searched, typed_ones)
    settled = _settled([*searched, *typed_ones])
    swept = {key: override for key, override in settled.items() if override.is_sweep_override()}
    shared = {
        key: settled[key] for key in settled if key not in swept and not settled[key].is_hydra_override()
    }
    _refuse_resume(shared)
    name_sweep(config, set(swept), () if "name" in shared else command.folders)
    config.hydra.sweep.dir = folder = str(config.hydra.sweep.dir)
    return Sweep(Path(folder), shared, swept, config, command)


def typed(overrides: Sequence[str]) -> str:
    """The script with these overrides, as it is typed into a shell."""
    return shlex.join(["python", Path(sys.argv[0]).name, *overrides])


def _groups(command: Command, loader: ConfigLoader, overrides: Sequence[Override]) -> dict[str, list[str]]:
    """The groups that are swept over lists of their options, with these; raises `UserError` for unknown ones.

    A group's name is as it was typed, with a `+` where it has one.
    """
    groups: dict[str, list[str]] = {}
    for override in overrides:
        if override.value_type not in _LISTS or override.package is not None:
            continue
        group = override.key_or_group
        known = command.choices(loader, group) if "." not in group else []
        if not known:
            continue
        values = groups[override.get_key_element()] = list(override.sweep_string_iterator())
        for value in values:
            if "/" not in value and value.strip("'\"") not in {*known, "null"}:
                raise UserError(f"{group}={value} is unknown.{closest(value, known)}")
    return groups


def _settled(overrides: Sequence[Override]) -> dict[str, Override]:
    """The overrides by their keys, in order; of two the last holds, as Hydra has it."""
    settled: dict[str, Override] = {}
    for override in overrides:
        settled.pop(_key(override), None)
        settled[_key(override)] = override
    return settled


def _refuse_both(searched: Sequence[Override], typed_ones: Sequence[Override]) -> None:
    fixed = {_key(each): each for each in [*searched, *typed_ones] if not each.is_sweep_override()}
    for override in typed_ones:
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


log = logging.getLogger(__name__)

Config = dict[str, Any]


class Jobs:
    """Calls `job` as Hydra's task function, also in the processes of a launcher.

    In a sweep a failure is told at once on stderr and kept in the job's folder as `error.txt`. A job with an
    option `resume` is not run again where it is finished, and goes on where it was cut off (`take_up`). A single
    run's failure is raised.
    `gather` gets the folder that holds all results, after every job; the text that it returns is for the end.
    """

    def __init__(self, job: Job, gather: Gather | None, sweep: Sweep | None, *, quiet: bool) -> None:
        self._job = job
        self._gather = gather
        self._quiet = quiet
        self._folder = None if sweep is None else sweep.folder.absolute()
        self._shared = [] if sweep is None else list(sweep.shared)
        self._gathered = ""

    def begin(self) -> None:
        """Before the first job of a sweep."""
        if self._folder is not None:
            Ledger(self._folder).open()

    @property
    def begun(self) -> bool:
        """Whether any job of the sweep has begun."""
        return self._folder is not None and bool(Ledger(self._folder).entries())

    def __call__(self, composed: DictConfig) -> float | None:
        """The job's value for one composed config; None where a job of a sweep failed or came to no number.

        Of several tasks that a launcher has started for it, the first alone does all this, and the others follow.
        """
        if is_follower():
            follow(self._job)
            return None
        with leading(self._job):
            return self._lead(composed)

    def _lead(self, composed: DictConfig) -> float | None:
        about = HydraConfig.get()
        folder = Path(about.runtime.output_dir)
        value: float | None
        if self._folder is None:
            value = self._alone(_plain(composed), folder)
        else:
            swept = " ".join(own_overrides(about.overrides.task, self._shared))
            value = self._attempt(composed, folder, f"job {about.job.num} ({swept})", Ledger(self._folder))
        if self._gather is not None:
            self._gathered = self._gather(self._folder or folder)
        return value

    def tell(self) -> int:
        """Says what the jobs came to together, and gives the exit status; for the process of the command."""
        entries = [] if self._folder is None else Ledger(self._folder).close()
        if self._gather is not None and self._folder is not None:
            self._gathered = self._gather(self._folder)
        if self._gathered:
            print(self._gathered, flush=True)  # noqa: T201
        return 0 if self._folder is None else told(entries, self._folder)

    def _alone(self, config: Config, folder: Path) -> float:
        if "resume" not in config:
            return self._job(config, folder)
        from filelock import FileLock, Timeout

        try:
            with FileLock(folder / ".lock", timeout=0):
                return self._job(config, folder)
        except Timeout:
            raise UserError(f"{folder}: another command is writing this run. Wait for its end.") from None
        except (SystemExit, KeyboardInterrupt):
            if (folder / "checkpoints" / "last.ckpt").exists():
                log.info("interrupted: resume=%s goes on where it stopped", folder)
            else:
                log.info("interrupted before there was anything to resume")
            raise

    def _attempt(self, composed: DictConfig, folder: Path, name: str, ledger: Ledger) -> float | None:
        error_file = folder / "error.txt"
        ledger.add(Entry(name, "begun"))
        log.info("%s", name)
        try:
            with held(folder):
                value, outcome = self._call(composed, folder)
        except Exception as error:
            message = explain(error) if self._quiet else None
            reason = message or "".join(traceback.format_exception(error)).rstrip()
            if not (folder / "report.json").exists():
                error_file.write_text(f"{reason}\n")
            sys.stderr.write(f"error: {name}: {reason}\n")
            ledger.add(Entry(name, "failed", 1 if message is None else 2, reason.splitlines()[-1]))
            return None
        except (SystemExit, KeyboardInterrupt) as end:
            code = end.code if isinstance(end, SystemExit) else None
            ledger.add(Entry(name, "cut off", code if isinstance(code, int) else 128 + signal.SIGINT))
            raise
        error_file.unlink(missing_ok=True)
        log.info("%s %s", name, outcome)
        ledger.add(Entry(name, outcome))
        return None if math.isnan(value) else value

    def _call(self, composed: DictConfig, folder: Path) -> tuple[float, Outcome]:
        config = _plain(composed)
        value = None
        if "resume" in config:
            config, value = take_up(config, folder)
        if value is not None:
            return value, "finished before"
        note(folder, composed)
        return self._job(config, folder), "went on" if config.get("resume") else "ran"


def _plain(composed: DictConfig) -> Config:
    config = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}
