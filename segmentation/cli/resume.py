"""`resume=RUN` and `resume=auto` of a single run, and what a sweep's job does with the run in its folder."""

import math
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from segmentation.cli.overrides import (
    Command,
    Config,
    as_plain_data,
    key_of,
    option_values,
    quoted,
    refuse_wrong_choices,
    unquoted,
)
from segmentation.cli.run_folder import has_checkpoint, is_free
from segmentation.errors import UserError, one_line
from segmentation.options import flat
from segmentation.reading import read_json, read_text, read_yaml

_KEY = "resume="
_OPTION = re.compile(r"[A-Za-z_]\w*(\.\w+)*")
_REFERENCE = re.compile(r"\$\{[\w.]+\}")
_OUTWARD = re.compile(
    r"logger\.\w+(\.(folder|mode)=|=.*(folder|mode)\W*:)|[^=]*\.download=(?!false$)|[^=]*=.*(://|/vsi|download\W*:)"
)
"""Options with which a run writes outside its folder, or asks the network."""
_SHOWN = 3  # differences in a message
_BEFORE_FIRST_CHECKPOINT = ("checkpoints", "tensorboard", "csv")
_MAY_CHANGE = ("trainer.", "compile ")
"""Options that may change when a run goes on: how long, and on how many devices, it trains."""


def with_resumed(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Command line arguments -> the same, after the overrides of the run that `resume=RUN` names, in its folder.

    The overrides typed now hold for this time only, instead of the run's own with the same key; what is left out of
    the run's own is said in notes. `resume=auto` is the latest unfinished run with this config, if any. Raises
    `UserError` where RUN is no run folder, has no checkpoint to go on from, or holds overrides that no run needs.
    """
    command = Command.parse(arguments, "train")
    runs = [unquoted(each.lstrip("+").removeprefix(_KEY)) for each in command.overrides if _is_resume(each)]
    typed = [override for override in command.overrides if not _is_resume(override)]
    run = runs[-1] if runs else ""
    if run == "auto":
        latest = latest_unfinished([*command.flags, *typed])
        run = "" if latest is None else str(latest)
    if run in ("", "null"):
        return [*command.flags, *typed], []
    folder = Path(run).expanduser().resolve()
    kept, notes = _fitting(_earlier(folder, run, command), command)
    if runs[-1] != "auto" and "hydra.run.dir" in map(key_of, typed):
        raise UserError(f"resume={run} goes on in that folder: leave hydra.run.dir out.")
    # The run keeps its own .hydra: a mistyped resume must not change what the run is.
    in_its_folder = [
        f"{_KEY}{quoted(str(folder))}",
        f"hydra.run.dir={quoted(str(folder))}",
        "hydra.output_subdir=null",
    ]
    # Hydra refuses a flag between two overrides.
    return [*command.flags, *kept, *typed, *in_its_folder], notes


def _earlier(folder: Path, run: str, command: Command) -> list[str]:
    """The overrides that the run in `folder` began with; `run` is how it was typed."""
    overrides = folder / ".hydra" / "overrides.yaml"
    if not overrides.is_file():
        raise UserError(
            f"resume={run} is no run folder: it has no .hydra/overrides.yaml. Give outputs/NAME/DATE_TIME."
        )
    if not has_checkpoint(folder):
        raise UserError(f"resume={run} has no checkpoints/last.ckpt: no epoch was finished. Start it anew.")
    earlier = read_yaml(overrides)
    if not isinstance(earlier, list) or not all(isinstance(override, str) for override in earlier):
        raise UserError(f"{overrides} is damaged: it should be a list of overrides.")
    typed = {key_of(override) for override in command.overrides}
    kept = []
    for text in earlier:
        if _is_resume(text):
            continue
        plain = _is_plain(text)
        if plain and not _OUTWARD.match(text.lstrip("+~")):
            kept.append(text)
        elif key_of(text) not in typed:
            what = "may reach out of its folder" if plain else "is no option of a run with a plain value"
            raise UserError(
                f"{overrides} holds '{one_line(text, 100)}', which {what}: it was not resumed. If the run is your"
                " own, type that option again beside resume."
            )
    try:
        refuse_wrong_choices(kept, command.config_folders)
    except UserError as error:
        raise UserError(f"{overrides}: {error}") from error
    return kept


def _fitting(earlier: Sequence[str], command: Command) -> tuple[list[str], list[str]]:
    """Earlier overrides without those of options that a choice typed now does not have, and notes of these.

    `scheduler=cosine` beside a run of `scheduler=multistep scheduler.milestones=[5]`: nobody typed that now.
    """
    typed = {key: unquoted(value) for key, _, value in (each.partition("=") for each in command.overrides)}
    kept, notes = [], []
    for text in earlier:
        group, _, option = key_of(text).partition(".")
        known = option_values(command.config_folders, group, typed[group]) if group in typed else {}
        if option and known and option.partition(".")[0] not in known and not text.startswith("+"):
            notes.append(f"note: {group}={typed[group]} does not have {group}.{option} of the run: left out")
        else:
            kept.append(text)
    return kept, notes


def _is_resume(argument: str) -> bool:
    return argument.lstrip("+").startswith(_KEY)


def _is_plain(text: str) -> bool:
    """Whether an override, perhaps a stranger's, sets an option of ours to a plain value.

    Hydra's own settings name functions that it calls, a flag or a package can bring a whole config folder, and a
    resolver such as `${oc.env:HOME}` reads what is none of a run's business.
    """
    try:
        override = OverridesParser.create().parse_override(text)
        return (
            override.package is None
            and _OPTION.fullmatch(override.key_or_group) is not None
            and "hydra" not in override.key_or_group.lower()
            and not override.is_sweep_override()
            and not any("${" in _REFERENCE.sub("", each) for each in _texts(override.value()))
        )
    except Exception:  # Hydra's parser ends in many kinds
        return False


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _texts(each)
    elif value is not None:
        yield str(value)


def latest_unfinished(arguments: Sequence[str]) -> Path | None:
    """The run with this config that last wrote a checkpoint, has no report and is not being written; or None.

    It is looked for where a new run would be put. Raises Hydra's exceptions for what cannot be composed.
    """
    command = Command.parse(arguments, "train")
    config = command.compose(command.overrides)
    place = Path(config.hydra.run.dir)
    options = as_plain_data(config)
    chosen = any(override.startswith("hydra.run.dir=") for override in command.overrides)
    found = [
        folder
        for folder in ([place] if chosen else _folders(place.parent))
        if has_checkpoint(folder)
        and not (folder / "report.json").exists()
        and _has_options(folder, options)
        and is_free(folder)
    ]
    return max(found, key=lambda folder: (folder / "checkpoints" / "last.ckpt").stat().st_mtime, default=None)


def _folders(place: Path) -> Iterable[Path]:
    return place.iterdir() if place.is_dir() else ()


def _has_options(folder: Path, options: dict[str, object]) -> bool:
    try:
        earlier = read_yaml(folder / "config.yaml")
    except (OSError, UserError):
        return False
    if not isinstance(earlier, dict):
        return False
    return all(difference.startswith(_MAY_CHANGE) for difference in differences(earlier, options))


def resume_job(config: Config, folder: Path) -> tuple[Config, float | None]:
    """The config with which a sweep's run in `folder` begins or goes on, and its val/miou where it is finished.

    A run is finished when its report.json is whole, also where it was prolonged by hand; a score without a number
    is nan. Raises `UserError` where the folder holds a run with another config, or one that was cut off while it was
    prolonged.
    """
    latest = folder / "config.yaml"
    if (
        not latest.exists()
        or (earlier := _read_config(folder / ".hydra" / "config.yaml") or _read_config(latest)) is None
    ):
        return config, None
    if different := differences(earlier, config):
        raise UserError(
            f"{folder} holds a run of other options ({_listed(different)}): give another name=NAME."
        )
    if (value := _finished(folder)) is not None:
        return config, value
    if changed := differences(_read_config(latest) or earlier, config):
        raise UserError(
            f"{folder} was resumed with other options ({_listed(changed)}) and then cut off: give that command"
            " again first."
        )
    if has_checkpoint(folder):
        return {**config, "resume": str(folder)}, None
    # It was cut off before its first epoch ended, so nothing is lost.
    for part in _BEFORE_FIRST_CHECKPOINT:
        shutil.rmtree(folder / part, ignore_errors=True)
    return config, None


def differences(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The options that differ, as `trainer.max_epochs 2, now 3`; `resume` and what was planned do not count."""
    before, after = (flat({**config, "resume": None}) for config in (earlier, now))
    planned = {"planned", "given", *earlier.get("planned", ()), *now.get("planned", ())}
    return [
        f"{key} {before.get(key)}, now {after.get(key)}"
        for key in sorted((before.keys() | after.keys()) - planned)
        if key not in before or key not in after or before[key] != after[key]
    ]


def _listed(different: list[str]) -> str:
    return ", ".join(different[:_SHOWN]) + (", ..." if len(different) > _SHOWN else "")


def _read_config(path: Path) -> Config | None:
    """A config file with its references; None where it cannot be read, is not complete, or has a resolver."""
    try:
        text = read_text(path)
        if not text.endswith("\n") or "${" in _REFERENCE.sub("", text):
            return None
        config = OmegaConf.to_container(OmegaConf.create(read_yaml(path)), resolve=True)
    except (OSError, UserError, ValueError, RecursionError, OmegaConfBaseException):
        return None
    if not isinstance(config, dict) or not config:
        return None
    return {str(key): value for key, value in config.items()}


def _finished(folder: Path) -> float | None:
    try:
        value = read_json(folder / "report.json")["metrics"]["val/miou"]
        return math.nan if value is None else float(value)
    except (OSError, UserError, ValueError, KeyError, TypeError):
        return None  # a report that was being written when its process died is none
