"""Options of training given to a command that takes its model from a checkpoint."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from segmentation.errors import UserError, closest

if TYPE_CHECKING:
    from omegaconf import DictConfig

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
