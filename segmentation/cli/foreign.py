"""Options of training given to a command that takes its model from a checkpoint."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from segmentation.errors import UserError, closest


def refuse_training_options(arguments: Sequence[str], conf: Path, config_name: str) -> None:
    """Raises `UserError` for `backbone=`, `data.size=` and the like where a checkpoint settles them.

    Hydra alone would take some of them in silence: the files of `conf/dataset` bring values for training.
    """
    foreign = training_keys(conf, config_name)
    own = _keys(conf, config_name)
    for argument in arguments:
        key = argument.partition("=")[0].lstrip("+~")
        if "=" not in argument or key.split(".")[0] not in foreign:
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


def _keys(conf: Path, config_name: str) -> set[str]:
    content = yaml.safe_load((conf / f"{config_name}.yaml").read_text())
    groups = {key for entry in content["defaults"] if isinstance(entry, dict) for key in entry}
    return {key for key in content.keys() | groups if " " not in key} - {"defaults", "hydra"}
