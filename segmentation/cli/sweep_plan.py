"""What a sweep (`-m`) is: its folder, the overrides that its jobs share, and the names of the jobs' folders."""

import contextlib
import hashlib
import math
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from omegaconf import DictConfig, OmegaConf

from segmentation.cli.overrides import Command, key_of, quoted
from segmentation.errors import UserError, closest
from segmentation.writing import refuse_links

_MULTIRUN = "hydra.mode=MULTIRUN"
_LISTS = (ValueType.CHOICE_SWEEP, ValueType.SIMPLE_CHOICE_SWEEP)

_LONGEST = 120  # file systems allow 255 bytes
_AWKWARD = re.compile(r"[^\w.+-]+")
_PART = re.compile(r"\$\{(\w+)[^}]*\}")
_NUMBERS = re.compile(r"\[[\d.,-]*\]")


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


# The names of its jobs' folders


def own_overrides(overrides: Sequence[str], shared: Collection[str]) -> list[str]:
    """The overrides that differ between jobs, ordered by key; all of them where none differs."""
    own = [override for override in overrides if key_of(override) not in shared]
    return sorted(own or overrides, key=key_of)


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


def _name_of(override: str) -> str:
    value = override.partition("=")[2]
    plain = _AWKWARD.sub("_", value).strip("_")
    # val/loss and val_loss are two jobs; a list of numbers is no other value's name.
    name = plain if plain == value or _NUMBERS.fullmatch(value) else f"{plain}-{_hash(value)}"
    return f"{_AWKWARD.sub('_', key_of(override))}-{name}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


# A launcher's processes import this file with the jobs that they get, and compose the folder names themselves.
OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)
