"""Exceptions -> what the user should read."""

import re
from collections.abc import Iterable

from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from segmentation.errors import UserError, closest


def explain(error: BaseException) -> str | None:
    """One line that says what is wrong and what to do; None where the mistake is ours."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} is missing: give {error.full_key}=VALUE."
    if isinstance(error, MissingConfigException):
        return _missing_option(error)
    if isinstance(error, OverrideParseException):
        return _unreadable(error)
    if isinstance(error, ConfigCompositionException) and str(error).startswith("Ambiguous"):
        return f"{_first_line(error)}: add -m (--multirun) to run each value, or write a list as KEY=[1,2]."
    if isinstance(error, ConfigCompositionException) and isinstance(
        error.__cause__, ConfigAttributeError | ConfigKeyError
    ):
        return _unknown_key(error.__cause__)
    if isinstance(error, InterpolationKeyError):
        return f"{error.full_key} refers to something that is not there: {_first_line(error)}."
    if isinstance(error, ValueError) and str(error).startswith("Config group override"):
        return "A group cannot be null: choose one of its options by name, see --help."
    if isinstance(error, ValueError) and str(error).startswith("Only one of --"):
        return _first_line(error) + "."
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}."
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _first_line(error) + "."
    return None


def _unreadable(error: OverrideParseException) -> str:
    told = f"'{error.override}' cannot be read: "
    reason = re.search(r" while evaluating '.*': (.+)", str(error))
    if reason is None:
        return f"{told}write KEY=VALUE, a list as KEY=[1,2], and quote special characters."
    choice = re.fullmatch(r"(.+)=choice\((.*)\)", error.override)
    if choice and "NoneType" in reason[1]:
        return f"{told}choice() takes no null, a bare list does: {choice[1]}={choice[2]}."
    return f"{told}{reason[1].rstrip('.')}."


def _missing_option(error: MissingConfigException) -> str:
    group, _, option = str(error.missing_cfg_file).rpartition("/")
    if not group:
        return f"There is no config '{option}'."
    if group in ("hydra/sweeper", "hydra/launcher"):
        return f"{group}={option} needs its package: pip install 'segmentation[sweep]'."
    # A leading underscore marks files that other options inherit from.
    choices = [name for name in error.options or [] if not name.startswith("_")]
    return f"{group}={option} is unknown.{closest(option, choices)}"


def _unknown_key(error: ConfigAttributeError | ConfigKeyError) -> str:
    full_key, key = str(error.full_key), str(error.key)
    siblings: Iterable[str] = () if error.parent_node is None else map(str, error.parent_node.keys())
    return f"There is no option '{full_key}'.{closest(key, siblings)}"


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0].rstrip(".")
