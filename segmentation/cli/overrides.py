"""Options of training given to a command that takes its model from a checkpoint."""

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from segmentation.errors import UserError, closest

if TYPE_CHECKING:
    from omegaconf import DictConfig

# MERGED FROM cli/job: What a command is made of.
# MERGED FROM cli/paths: File names as the shell gives them, in a grammar where = , ( [ and spaces have meanings of
# MERGED FROM cli/compose: The config that a command would get, for notebooks and tests.

Job = Callable[[Mapping[str, Any], Path], float]
"""Gets its config as plain data and the folder of its run; the result is what a search makes large."""

Gather = Callable[[Path], str]
"""Gets the folder that holds all results, the run's own or the sweep's; its text is for the end."""


def quote_paths(*keys: str) -> None:
    """Quotes the values of these options on the command line, so that any file name may be typed there.

    What is quoted already is left as it is.
    """
    sys.argv[1:] = [_quoted_option(argument, keys) for argument in sys.argv[1:]]


def quoted(text: str) -> str:
    """The text as one value of Hydra's grammar."""
    # In front of a quote a backslash escapes, anywhere else it is itself.
    return "'" + text.replace("'", "\\'") + "'"


def _quoted_option(argument: str, keys: tuple[str, ...]) -> str:
    key, sign, value = argument.partition("=")
    if key not in keys or not value or (value[0] == value[-1] and value[0] in "'\"" and len(value) > 1):
        return argument
    return f"{key}{sign}{quoted(value)}"


CONF = Path(__file__).parents[2] / "conf"


def compose(config_name: str, *overrides: str) -> dict[str, Any]:
    """`conf/<config_name>.yaml` with overrides as on a command line, as plain data.

    Raises Hydra's exceptions for what cannot be composed.
    """
    import hydra
    from omegaconf import OmegaConf

    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_container(hydra.compose(config_name, list(overrides)), resolve=True)
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


CHOICES: Mapping[str, Collection[str]] = {"trainer": ("ddp",)}
"""Groups that such a command shares with training for some of their options, and these."""


def refuse_training_options(arguments: Sequence[str], conf: Path, config_name: str) -> None:
    """Raises `UserError` for `backbone=`, `data.size=` and the like where a checkpoint settles them.

    Hydra alone would take some of them in silence: the files of `conf/dataset` bring values for training.
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
    """What `conf/train.yaml` has and a config with a `checkpoint` has not; nothing for other configs."""
    own = _keys(conf, config_name)
    return _keys(conf, "train") - own if "checkpoint" in own else set()


def without_training(composed: "DictConfig", conf: Path, config_name: str) -> "DictConfig":
    """The config less what the files of its groups brought for training."""
    from omegaconf import OmegaConf

    foreign = training_keys(conf, config_name)
    own = OmegaConf.masked_copy(composed, [str(key) for key in composed if key not in foreign])
    for group, options in shared_options(conf, config_name).items():
        own[group] = OmegaConf.masked_copy(own[group], options)
    return own


def shared_options(conf: Path, config_name: str) -> dict[str, list[str]]:
    """The options that a config itself lists of the groups in `CHOICES`; nothing for configs without a checkpoint."""
    content = yaml.safe_load((conf / f"{config_name}.yaml").read_text())
    return {group: list(content[group]) for group in CHOICES if "checkpoint" in content and group in content}


def _keys(conf: Path, config_name: str) -> set[str]:
    content = yaml.safe_load((conf / f"{config_name}.yaml").read_text())
    groups = {key for entry in content["defaults"] if isinstance(entry, dict) for key in entry}
    return {key for key in content.keys() | groups if " " not in key} - {"defaults", "hydra"}
