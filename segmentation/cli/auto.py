"""`dataset=auto` on a command line: what a root alone means, and the options of the layout that the root has."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import yaml

from segmentation.cli.overrides import CONF, Command, as_plain_data, parse_overrides, quoted
from segmentation.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

_DEFAULT = "shapes"
_GROUP = "dataset"


def with_recognised(arguments: Sequence[str], config_name: str) -> tuple[list[str], list[str]]:
    """Command line arguments -> the same with the layout's own name and options instead of `dataset=auto`; notes.

    `dataset.root=PATH` alone means `dataset=auto` for a training and for an inspection. So all that follows, such as
    `config.yaml`, the checkpoint and `resume=`, has plain values. Roots that a sweep varies are recognised by its jobs
    (`with_job_recognised`), and one that an inspection does not recognise is left to its report.

    Raises `UserError` where `recognised_options` does, and Hydra's exceptions for what cannot be composed.
    """
    command = Command.parse(arguments, config_name)
    if not any(override.lstrip("+").startswith(_GROUP) for override in command.overrides):
        return list(arguments), []
    typed = {
        override.get_key_element().lstrip("+~"): override for override in parse_overrides(command.overrides)
    }
    own = list(command.overrides)
    if _GROUP not in typed and config_name in ("train", "inspect") and _means_auto(typed):
        own.insert(0, f"{_GROUP}=auto")
    elif _GROUP not in typed or typed[_GROUP].value() != "auto":
        return list(arguments), []
    root = typed.get(f"{_GROUP}.root")
    if root is None or root.is_sweep_override():
        return [*command.flags, *own], []
    from segmentation.data import recognised_options  # imports numpy, which other data sets need later

    single = [text for text in own if not parse_overrides([text])[0].is_sweep_override()]
    options: Mapping[str, Any] = as_plain_data(command.compose(single))[_GROUP]
    try:
        found, said = recognised_options(options)
    except UserError:
        if config_name != "inspect":
            raise
        return [*command.flags, *own], []
    new = {
        key: value
        for key, value in found.items()
        if key not in ("name", "root") and options.get(key, ...) != value
    }
    gone = {_GROUP, *(f"{_GROUP}.{key}" for key in new)}
    kept = [text for text in own if text.partition("=")[0].lstrip("+~") not in gone]
    chosen = [
        f"{_GROUP}={found['name']}",
        *(f"{_GROUP}.{key}={as_override(value)}" for key, value in new.items()),
    ]
    return [*command.flags, *chosen, *kept], [said]


def with_job_recognised(
    composed: "DictConfig", flags: Sequence[str], config_name: str
) -> tuple["DictConfig", list[str]]:
    """The config of a sweep's job, as that of a single run with its root; notes. `flags` are the command's.

    Hydra's own part of the config is changed alike: it holds what is typed, and which files were chosen.

    Raises as `with_recognised`.
    """
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf, read_write

    arguments, notes = with_recognised([*flags, *HydraConfig.get().overrides.task], config_name)
    if not notes:
        return composed, []
    command = Command.parse(arguments, config_name)
    new = command.compose(command.overrides)
    about: Any = HydraConfig.get()
    with read_write(about):
        about.overrides.task = list(command.overrides)
        about.runtime.choices[_GROUP] = new.hydra.runtime.choices[_GROUP]
    return OmegaConf.masked_copy(new, [str(key) for key in new if key != "hydra"]), notes


def _means_auto(typed: Mapping[str, Any]) -> bool:
    """Whether options of data are typed that the default has not, and nothing says which data they are of."""
    if "experiment" in typed or ("resume" in typed and typed["resume"].value() not in (None, "auto")):
        return False
    known = yaml.safe_load((CONF / _GROUP / f"{_DEFAULT}.yaml").read_text())[_GROUP]
    return any(key.startswith(f"{_GROUP}.") and key.partition(".")[2] not in known for key in typed)


def as_override(value: Any) -> str:
    """Plain data in Hydra's grammar."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_key(key)}:{as_override(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(as_override, value))}]"
    return str(value) if isinstance(value, int | float) else quoted(str(value))


def _key(key: Any) -> str:
    return (
        str(key)
        if isinstance(key, int)
        else "".join(f"\\{each}" if each in "\\()[]{}:=, \t" else each for each in str(key))
    )
