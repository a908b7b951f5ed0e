"""A sweep before its first job: one folder for all of it, what its jobs share, and what they differ by."""

import contextlib
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from omegaconf import DictConfig

from segmentation.cli.command import Command
from segmentation.cli.folders import name_sweep
from segmentation.cli.paths import quoted
from segmentation.errors import UserError, closest

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
