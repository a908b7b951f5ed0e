"""Overrides on a command line: quoting, taking a command apart, composing its config, refusing foreign options."""

import contextlib
import os
import re
import sys
from argparse import Namespace
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from segmentation.cli.messages import USUAL_NAMES
from segmentation.errors import UserError, closest, one_line

# Hydra is imported where it is needed: --help must not wait for it.
if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

Config = dict[str, Any]
"""A composed config as plain data."""

Job = Callable[[Mapping[str, Any], Path], float]
"""Gets its config as plain data and the folder of its run; a search maximizes the result."""

Gather = Callable[[Path], str]
"""Gets the folder that holds all results, the run's own or the sweep's; its text is printed at the end."""

_PACKAGE = Path(__file__).parents[1]
CONF = next(filter(Path.is_dir, (_PACKAGE.parent / "conf", _PACKAGE / "conf")), _PACKAGE / "conf")
"""Of the checkout; installed packages have a copy inside."""

CHOICES: Mapping[str, Collection[str]] = {"trainer": ("ddp",)}
"""Groups of training that a command with a `checkpoint` has too, and the options that it takes of them."""

_WORDS_TOO = ("trainer.devices",)  # a number in conf/, but other values have a meaning
_SHOWN = 100  # characters of a value in a message
_CONFIG_FLAGS = ("config_path", "config_name", "config_dir")
_FOLDER_FLAGS = ("--config-path", "--config-dir")


def quoted(text: str) -> str:
    """The text as one value of Hydra's grammar."""
    # Backslashes escape only in front of a quote, the closing one too.
    return "'" + re.sub(r"(\\*)('|\Z)", lambda match: 2 * match[1] + ("\\'" if match[2] else ""), text) + "'"


def unquoted(value: str) -> str:
    """The text of a value of Hydra's grammar: the inverse of `quoted`, for values without quotes the same."""
    if not _is_quoted(value):
        return value
    return re.sub(r"(\\+)(?=['\"]|\Z)", lambda match: match[1][: len(match[1]) // 2], value[1:-1])


def _is_quoted(value: str) -> bool:
    return len(value) > 1 and value[0] == value[-1] and value[0] in "'\""


def key_of(override: str) -> str:
    """The key of an override, without the sign of an addition or deletion."""
    return override.partition("=")[0].lstrip("+~")


def quote_paths(*keys: str, lists: Collection[str] = ()) -> None:
    """Quotes the values of these options in `sys.argv`, so that any file name may be typed there, and expands `~`.

    So are those of `lists`, unless they begin as a list does. In Hydra's grammar `=`, `,`, `(`, `[` and spaces have
    meanings of their own. Quoted values are left as they are, and so are those with commas in a sweep, where they are
    several.

    Raises `UserError` for one that is empty, as of a shell's variable that is not set: it would be the folder that the
    command is run in.
    """
    sweep = bool({"-m", "--multirun"} & set(sys.argv))
    given_lists = tuple(f"{key}=[" for key in lists)
    sys.argv[1:] = [
        argument
        if (sweep and "," in argument) or argument.lstrip("+").startswith(given_lists)
        else _quoted_option(argument, (*keys, *lists))
        for argument in sys.argv[1:]
    ]


def _quoted_option(argument: str, keys: tuple[str, ...]) -> str:
    key, sign, value = argument.partition("=")
    if key in _FOLDER_FLAGS and value.startswith("~"):
        return f"{key}={_expanded(value)}"
    if key.lstrip("+") not in keys:
        return argument
    if sign and not unquoted(value):
        raise UserError(f"{key}= is empty: give it a value, or leave it out.")
    if value in ("", "null") or _is_quoted(value):
        return argument
    return f"{key}{sign}{quoted(_expanded(value))}"


def _expanded(path: str) -> str:
    return os.path.expanduser(path)  # noqa: PTH111 - keeps all other characters, and a ~ that is nobody's home


def compose(config_name: str, *overrides: str) -> Config:
    """`conf/<config_name>.yaml` with overrides as on a command line, as plain data.

    For notebooks and tests, and inside a command for the config of another. Raises Hydra's exceptions for what cannot
    be composed.
    """
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    running = GlobalHydra.instance().is_initialized()
    with contextlib.nullcontext() if running else hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return as_plain_data(hydra.compose(config_name, list(overrides)))


def as_plain_data(composed: "DictConfig") -> Config:
    """The config without `hydra`. Raises omegaconf's exception for a mandatory value that is missing."""
    from omegaconf import OmegaConf

    own = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    config = OmegaConf.to_container(own, resolve=True, throw_on_missing=True)
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


@dataclass(frozen=True)
class Command:
    """A command line: Hydra's `flags` with their values and the `overrides`, each in the order they were typed."""

    flags: tuple[str, ...]
    overrides: tuple[str, ...]
    given: Namespace
    config_name: str

    @classmethod
    def parse(cls, arguments: Sequence[str], config_name: str) -> "Command":
        """Parses command line arguments; `config_name` is used where none was typed.

        Ends the process, as Hydra does, for a flag that does not exist.
        """
        from hydra._internal.utils import get_args_parser

        _refuse_flags(arguments)
        given = get_args_parser().parse_intermixed_args(list(arguments))
        overrides = tuple(given.overrides)
        flags = tuple(argument for argument in arguments if argument not in overrides)
        return cls(flags, overrides, given, given.config_name or config_name)

    @property
    def only_asks(self) -> bool:
        """Whether it shows something, and runs nothing."""
        given = self.given
        return bool(given.cfg or given.info or given.hydra_help or given.shell_completion)

    @property
    def config_flags(self) -> list[str]:
        """The flags that say which config files are read."""
        values = {flag: getattr(self.given, flag) for flag in _CONFIG_FLAGS}
        return [f"--{flag.replace('_', '-')}={value}" for flag, value in values.items() if value]

    @property
    def config_folders(self) -> list[Path]:
        """The folders in which config files are looked for."""
        folders = [self.given.config_path or CONF, *filter(None, [self.given.config_dir])]
        return [Path(folder).absolute() for folder in folders]

    @property
    def _search_path(self) -> list[str]:
        more = ",".join(quoted(f"file://{folder}") for folder in self.config_folders[1:])
        return [f"hydra.searchpath=[{more}]"] if more else []

    @contextlib.contextmanager
    def config_loader(self) -> Iterator["ConfigLoader"]:
        """Hydra, initialized for this command's config folders."""
        import hydra
        from hydra.core.global_hydra import GlobalHydra

        running = GlobalHydra.instance().hydra  # where a job of a sweep composes another config
        GlobalHydra.instance().clear()
        try:
            with hydra.initialize_config_dir(str(self.config_folders[0]), version_base="1.3"):
                yield GlobalHydra.instance().config_loader()
        finally:
            GlobalHydra.instance().hydra = running

    def compose(self, overrides: Sequence[str]) -> "DictConfig":
        """The config of these overrides, `hydra` included. Raises Hydra's exceptions for what cannot be composed."""
        import hydra

        with self.config_loader():
            composed = hydra.compose(
                self.config_name, [*overrides, *self._search_path], return_hydra_config=True
            )
        return without_leftovers(composed, composed.hydra)[0]

    def group_options(self, loader: "ConfigLoader", group: str) -> list[str]:
        """The options of a group; none where there is no such group."""
        return loader.get_group_options(group, config_name=self.config_name, overrides=self._search_path)


def parse_overrides(overrides: Sequence[str]) -> "list[Override]":
    """Overrides in Hydra's grammar. Raises Hydra's exceptions, and `UserError` where its parser breaks down."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_overrides(list(overrides))
    except HydraException:
        raise
    except Exception as error:  # such as a number of 5,000 digits, or as many brackets
        shown = one_line(" ".join(overrides), _SHOWN)
        raise UserError(f"'{shown}' cannot be read: {str(error)[:60]}.") from error


def refuse_missing_folders(config_folders: Sequence[Path]) -> None:
    """Raises `UserError` for a config folder that is not there: Hydra would warn of it in several lines."""
    for folder in config_folders:
        if not folder.is_dir():
            raise UserError(f"There is no folder {folder}: --config-dir takes one with config files in it.")


def refuse_wrong_choices(overrides: Sequence[str], config_folders: Sequence[Path]) -> None:
    """Raises `UserError` where a group's choice is not the name of one of its files: a list, a number or a path.

    Hydra would merge several files, or follow the path out of the config folders to a file of somebody else.
    """
    parsed = parse_overrides(overrides)
    if any(override.key_or_group == "hydra.searchpath" for override in parsed):
        return  # more config folders, which Hydra alone knows
    for override in parsed:
        group, choices = override.key_or_group, _choices(override.key_or_group, config_folders)
        if not choices or override.is_sweep_override() or override.value() is None:
            continue
        if override.value() not in choices:
            shown = one_line(override.get_value_element_as_str(), _SHOWN)
            last = str(override.value()).rpartition("/")[2]
            raise UserError(f"{group}={shown} is unknown.{closest(last, choices)}")


def _choices(group: str, config_folders: Sequence[Path]) -> list[str]:
    """The options of a group of ours: a leading underscore marks files that other options inherit from."""
    if not group.isidentifier() or group == "hydra":
        return []
    return [path.stem for folder in config_folders for path in (folder / group).glob("[!_]*.yaml")]


def _refuse_flags(arguments: Sequence[str]) -> None:
    """Raises `UserError` for `--epochs 3`: Hydra would answer with the usage of its own flags."""
    from hydra._internal.utils import get_args_parser

    _, unknown = get_args_parser().parse_known_intermixed_args(list(arguments))
    for flag in unknown:
        key, _, value = flag.partition("=")
        name = key.lstrip("-").replace("-", "_")
        follows = arguments[arguments.index(flag) + 1 :][:1]
        if not value:
            value = follows[0] if follows and "=" not in follows[0] and follows[0][:1] != "-" else "VALUE"
        raise UserError(
            f"There is no flag {key}: options have no dashes. Write {USUAL_NAMES.get(name, name)}={value}."
        )


def refuse_training_options(arguments: Sequence[str], conf: Path, config_name: str) -> None:
    """Raises `UserError` for `backbone=`, `data.size=` and the like where the checkpoint determines them.

    Hydra alone would accept some of them without effect: the files of `conf/dataset` bring values for training.
    """
    foreign = training_keys(conf, config_name)
    own = _keys(conf, config_name)
    shared = shared_options(conf, config_name)
    for argument in arguments:
        key, sign, value = argument.partition("=")
        key = key.lstrip("+~")
        group, _, option = key.partition(".")
        if not sign or (group not in foreign and (group not in shared or option in shared[group])):
            continue
        if not option and group in shared:
            if value not in CHOICES[group]:
                raise UserError(f"{key}={value} belongs to training.{closest(value, CHOICES[group])}")
            continue
        last = key.rpartition(".")[2]
        if last in own:
            raise UserError(f"There is no option '{key}'.{closest(last, own)}")
        raise UserError(
            f"{key} belongs to training: what is needed of it comes from the checkpoint. Leave it out."
        )


def training_keys(conf: Path, config_name: str) -> set[str]:
    """The keys that `conf/train.yaml` has and a config with a `checkpoint` has not; none for other configs."""
    own = _keys(conf, config_name)
    return _keys(conf, "train") - own if "checkpoint" in own else set()


def own_config(composed: "DictConfig", config_name: str) -> tuple["DictConfig", list[str]]:
    """What a job gets of the config that Hydra has composed for it, and notes of what is left out of an experiment.

    The files of `conf/dataset` bring values for training, which a checkpoint has already.
    """
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    composed, notes = without_leftovers(composed, HydraConfig.get())
    foreign = training_keys(CONF, config_name)
    own = OmegaConf.masked_copy(composed, [str(key) for key in composed if key not in foreign])
    for group, options in shared_options(CONF, config_name).items():
        own[group] = OmegaConf.masked_copy(own[group], options)
    return own, notes


def shared_options(conf: Path, config_name: str) -> dict[str, list[str]]:
    """The options of the groups in `CHOICES` that a config lists itself; none for configs without a checkpoint."""
    content = yaml.safe_load((conf / f"{config_name}.yaml").read_text())
    return {group: list(content[group]) for group in CHOICES if "checkpoint" in content and group in content}


def _keys(conf: Path, config_name: str) -> set[str]:
    content = yaml.safe_load((conf / f"{config_name}.yaml").read_text())
    groups = {key for entry in content["defaults"] if isinstance(entry, dict) for key in entry}
    return {key for key in content.keys() | groups if " " not in key} - {"defaults", "hydra"}


def without_leftovers(composed: "DictConfig", hydra: Any) -> tuple["DictConfig", list[str]]:
    """The config without what an experiment sets for choices other than those typed beside it, and notes of it.

    `experiment=binary_resnet50 scheduler=poly`: the experiment sets `scheduler.min_lr`, which its own schedule has and
    poly has not. `hydra` is Hydra's own part of the config.
    """
    from omegaconf import DictConfig, open_dict

    notes: list[str] = []
    choices = hydra.runtime.choices
    if choices.get("experiment") is None:
        return composed, notes
    typed = _typed_keys(hydra)
    folders = [Path(source.path) for source in hydra.runtime.config_sources if source.schema == "file"]
    composed = composed.copy()
    for group in sorted(typed & choices.keys() - {"experiment"}):
        if not isinstance(composed.get(group), DictConfig):
            continue
        known = option_values(folders, group, str(choices[group]))
        left = [str(key) for key in composed[group] if key not in known and f"{group}.{key}" not in typed]
        for key in left:
            with open_dict(composed):
                del composed[group][key]
            notes.append(
                f"experiment={choices.experiment} sets {group}.{key}, which {group}={choices[group]} does not have:"
                " left out"
            )
    return composed, notes


def given_keys(hydra: Any) -> list[str]:
    """The options and groups that were typed, or that an experiment, a sweep's or the data set's own file sets.

    `hydra` is Hydra's own part of the config.
    """
    folders = [Path(source.path) for source in hydra.runtime.config_sources if source.schema == "file"]
    keys = _typed_keys(hydra)
    for group in ("dataset", "experiment", "sweep"):
        if (choice := hydra.runtime.choices.get(group)) is not None:
            keys |= _set_keys(folders, group, str(choice))
    return sorted(keys)


def _set_keys(folders: Sequence[Path], group: str, choice: str) -> set[str]:
    """What the file of a group's option sets, itself and by the files that it inherits from."""
    from segmentation.options import flat  # --help must not wait for pydantic

    path = next((file for folder in folders if (file := folder / group / f"{choice}.yaml").is_file()), None)
    content = yaml.safe_load(path.read_text()) or {} if path is not None else {}
    keys: set[str] = set()
    for entry in content.pop("defaults", []):
        if isinstance(entry, dict):  # override /loss: bce
            keys |= {key.removeprefix("override").strip(" /") for key in entry}
        elif entry != "_self_":
            keys |= _set_keys(folders, group, entry)
    return keys | flat(content).keys()


def option_values(folders: Sequence[Path], group: str, choice: str) -> Config:
    """The content of a group's option, with that of the files that it inherits from."""
    path = next((file for folder in folders if (file := folder / group / f"{choice}.yaml").is_file()), None)
    if path is None:
        return {}
    content = yaml.safe_load(path.read_text()) or {}
    inherited = [each for each in content.pop("defaults", []) if isinstance(each, str) and each != "_self_"]
    section = content.get(group, {}) if path.read_text().startswith("# @package _global_") else content
    values: Config = {}
    for each in inherited:
        values |= option_values(folders, group, each)
    return values | section


def _typed_keys(hydra: Any) -> set[str]:
    from omegaconf import OmegaConf

    # Not resolved: `name=${nothing}` is text here.
    typed = OmegaConf.to_container(hydra.overrides.task, resolve=False)
    assert isinstance(typed, list)
    return {key_of(str(override)) for override in typed}


def refuse_words_for_numbers(composed: "DictConfig", hydra: Any) -> None:
    """Raises `UserError` where an option was typed whose file in `conf/` gives a number, and is no number now.

    The objects that get the options would say so too, but only when torch has been imported. `hydra` is Hydra's own
    part of the config.
    """
    from omegaconf import OmegaConf

    from segmentation.options import flat  # --help must not wait for pydantic

    folders = [Path(source.path) for source in hydra.runtime.config_sources if source.schema == "file"]
    values = flat(OmegaConf.to_container(composed, resolve=False))  # type: ignore[arg-type]
    for key in _typed_keys(hydra):
        group, _, option = key.partition(".")
        if key in _WORDS_TOO or not option or hydra.runtime.choices.get(group) is None:
            continue
        default = flat(option_values(folders, group, str(hydra.runtime.choices[group]))).get(option)
        value = values.get(key)
        if not isinstance(default, int | float) or isinstance(default, bool):
            continue
        if isinstance(value, str) and "${" not in value:
            try:
                float(value)
            except ValueError:
                shown = one_line(value, _SHOWN)
                raise UserError(
                    f"{key}={shown} is not right: it should be a number, such as {default}."
                ) from None
