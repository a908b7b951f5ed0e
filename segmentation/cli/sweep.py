"""A sweep before its first job: one folder for all of it, and what its jobs share."""

import contextlib
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import hydra
from hydra._internal.utils import get_args
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from segmentation.cli.compose import CONF
from segmentation.cli.paths import quoted
from segmentation.errors import UserError

_MULTIRUN = "hydra.mode=MULTIRUN"


@dataclass(frozen=True)
class Sweep:
    """A sweep's folder, the overrides that its jobs share, by their keys, and the config that these make."""

    folder: Path
    shared: dict[str, Override]
    config: DictConfig

    def arguments(self, given: Sequence[str], more: Sequence[str] = ()) -> list[str]:
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
        kept = [argument for argument in given if argument.partition("=")[0] not in settled]
        # Beside the other overrides: a flag may not come between them.
        place = next((index for index, argument in enumerate(kept) if _is_override(argument)), len(kept))
        return [*kept[:place], *added, *kept[place:]]

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

    Raises Hydra's exceptions for what cannot be composed, and `UserError` for `resume=` in a sweep and for
    `sweep=` without one.
    """
    given = get_args(arguments)
    multirun = given.multirun or _MULTIRUN in given.overrides
    if given.cfg or given.info or given.hydra_help:
        return None
    if not multirun:
        _refuse_search(given.overrides)
        return None
    overrides = OverridesParser.create().parse_overrides(given.overrides)
    shared = [override for override in overrides if not override.is_sweep_override()]
    lines = [str(override.input_line) for override in shared]
    if given.config_dir:
        lines.append(f"hydra.searchpath=[{quoted(f'file://{Path(given.config_dir).absolute()}')}]")
    conf = Path(given.config_path or CONF).absolute()
    with hydra.initialize_config_dir(str(conf), version_base="1.3"):
        config = hydra.compose(given.config_name or config_name, lines, return_hydra_config=True)
        swept = {_key(override) for override in overrides if override not in shared}
        swept |= set(config.hydra.sweeper.get("params") or ()) - set(map(_key, shared))
        _name(config, {key.partition(".")[0] for key in swept})
        config.hydra.sweep.dir = folder = str(config.hydra.sweep.dir)
    own = {_key(override): override for override in shared if not override.is_hydra_override()}
    if "resume" in own and own["resume"].value() is not None:
        raise UserError(
            "resume is for one run: a sweep goes on when its command is given again. Leave it out."
        )
    return Sweep(Path(folder), own, config)


def typed(overrides: Sequence[str]) -> str:
    """The script with these overrides, as it is typed into a shell."""
    return shlex.join(["python", Path(sys.argv[0]).name, *overrides])


def _name(config: DictConfig, swept: set[str]) -> None:
    """Leaves out of the name what differs between the jobs: it is put together from options."""
    raw = OmegaConf.to_container(config, resolve=False)
    name = raw.get("name") if isinstance(raw, dict) else None
    if isinstance(name, str):
        kept = re.sub(r"\$\{(\w+)[^}]*\}", lambda match: "" if match[1] in swept else match[0], name)
        config.name = kept.strip("_") or "sweep"


def _refuse_search(overrides: Sequence[str]) -> None:
    for override in overrides:
        if override.startswith("sweep=") and override != "sweep=null":
            raise UserError(f"{override} is for many runs: add -m (--multirun).")


def _is_override(argument: str) -> bool:
    return "=" in argument and not argument.startswith("-")


def _key(override: Override) -> str:
    return str(override.get_key_element()).lstrip("+~")
