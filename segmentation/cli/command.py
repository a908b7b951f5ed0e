"""A command as it was typed: Hydra's flags, the overrides between them, and the config that these make."""

import contextlib
import re
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra._internal.utils import get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from segmentation.cli.overrides import CONF, quoted
from segmentation.config import flat

# MERGED FROM cli/again: What must be typed beside a command's overrides to get the options of a run that had more t

_CONFIG_FLAGS = ("config_path", "config_name", "config_dir")


@dataclass(frozen=True)
class Command:
    """`flags` with their values and `overrides`, each in the order in which they were typed."""

    flags: tuple[str, ...]
    overrides: tuple[str, ...]
    given: Namespace
    config_name: str

    @classmethod
    def of(cls, arguments: Sequence[str], config_name: str) -> "Command":
        """Takes the command line apart; `config_name` is what holds where none was typed.

        Ends the process, as Hydra does, for a flag that does not exist.
        """
        given = get_args_parser().parse_intermixed_args(list(arguments))
        overrides = tuple(given.overrides)
        flags = tuple(argument for argument in arguments if argument not in overrides)
        return cls(flags, overrides, given, given.config_name or config_name)

    @property
    def config_flags(self) -> list[str]:
        """The flags that say which config files are read."""
        values = {flag: getattr(self.given, flag) for flag in _CONFIG_FLAGS}
        return [f"--{flag.replace('_', '-')}={value}" for flag, value in values.items() if value]

    @property
    def folders(self) -> list[Path]:
        """Where config files are looked for."""
        given = self.given
        return [
            Path(given.config_path or CONF).absolute(),
            *([Path(given.config_dir).absolute()] if given.config_dir else ()),
        ]

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """The config of these overrides with `hydra` in it. Raises Hydra's exceptions for what cannot be composed."""
        with self.loading():
            return hydra.compose(self.config_name, [*overrides, *self._search_path], return_hydra_config=True)

    def choices(self, loader: ConfigLoader, group: str) -> list[str]:
        """The options of a group; none where there is no such group."""
        return loader.get_group_options(group, config_name=self.config_name, overrides=self._search_path)

    @contextlib.contextmanager
    def loading(self) -> Iterator[ConfigLoader]:
        """Hydra, made ready for this command's config files."""
        with hydra.initialize_config_dir(str(self.folders[0]), version_base="1.3"):
            yield GlobalHydra.instance().config_loader()

    @property
    def _search_path(self) -> list[str]:
        more = ",".join(quoted(f"file://{folder}") for folder in self.folders[1:])
        return [f"hydra.searchpath=[{more}]"] if more else []


def own_options(composed: DictConfig) -> dict[str, Any]:
    """The config without `hydra`, as plain data."""
    own = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    options = OmegaConf.to_container(own, resolve=True)
    assert isinstance(options, dict)
    return {str(key): value for key, value in options.items()}


_OF_A_SWEEP = ("callbacks.pruning.", "resume")
"""Options that say how a run stands among others, not what it is: alone it is compared with none."""

_PLAIN = re.compile(r"[A-Za-z_][\w./-]*")
_WORDS = {"null", "true", "false", "nan", "inf"}


def more_overrides(run: Path, composed: Mapping[str, Any]) -> list[str]:
    """Overrides that make the `composed` config that of the run folder `run`; none where it has no config."""
    try:
        kept = yaml.safe_load((run / "config.yaml").read_text())
    except (OSError, yaml.YAMLError):
        return []
    if not isinstance(kept, dict):
        return []
    before, now = flat(kept), flat(composed)
    keys = [key for key in sorted(before.keys() | now.keys()) if not key.startswith(_OF_A_SWEEP)]
    changed = [
        f"{key}={spelled(before[key])}"
        for key in keys
        if key in before and key in now and before[key] != now[key]
    ]
    added = [f"+{key}={spelled(before[key])}" for key in keys if key not in now]
    return [*changed, *added, *(f"~{key}" for key in keys if key not in before)]


def spelled(value: Any) -> str:
    """A value as Hydra's grammar has it: numbers, words, null, lists and mappings."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) and value.lower() not in _WORDS else quoted(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{spelled(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(spelled, value)) + "]"
    return str(value)
