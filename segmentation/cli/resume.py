"""`resume=RUN` and `resume=auto`: the run's own overrides, then those typed now, in the run's own folder."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from segmentation.cli.command import Command
from segmentation.cli.latest import latest_unfinished
from segmentation.cli.paths import quoted
from segmentation.errors import UserError

_KEY = "resume="


def resumed(arguments: Sequence[str]) -> list[str]:
    """Command line arguments -> the same, with those of the run that `resume=RUN` names before them.

    What is typed beside it holds for this time only. `resume=auto` names the latest run of these options that is
    not finished, or none. Raises `UserError` where RUN is no run folder or has no checkpoint to go on from, and
    where a new run would be written over an old one.
    """
    command = Command.of(arguments, "train")
    runs = [each.lstrip("+").removeprefix(_KEY) for each in command.overrides if _is_resume(each)]
    typed = [override for override in command.overrides if not _is_resume(override)]
    run = runs[-1] if runs else ""
    if run == "auto":
        latest = latest_unfinished([*command.flags, *typed])
        run = "" if latest is None else str(latest)
    if run in ("", "null"):
        _refuse_used_folder(typed)
        return [*command.flags, *typed]
    folder = Path(run.strip("'\"")).expanduser().resolve()
    kept = [override for override in _earlier(folder, run) if not _is_resume(override)]
    # The run keeps its own .hydra: a mistyped resume must not change what the run is.
    there = [
        f"{_KEY}{quoted(str(folder))}",
        f"hydra.run.dir={quoted(str(folder))}",
        "hydra.output_subdir=null",
    ]
    # Hydra refuses a flag between two overrides.
    return [*command.flags, *kept, *typed, *there]


def _earlier(folder: Path, run: str) -> list[str]:
    """The overrides that the run in `folder` began with; `run` is how it was typed."""
    overrides = folder / ".hydra" / "overrides.yaml"
    if not overrides.is_file():
        raise UserError(
            f"resume={run} is no run folder: it has no .hydra/overrides.yaml. Give outputs/NAME/DATE_TIME."
        )
    if not (folder / "checkpoints" / "last.ckpt").is_file():
        raise UserError(f"resume={run} has no checkpoints/last.ckpt: no epoch was finished. Start it anew.")
    try:
        earlier = yaml.safe_load(overrides.read_text())
    except yaml.YAMLError:
        earlier = None
    if not isinstance(earlier, list) or not all(isinstance(override, str) for override in earlier):
        raise UserError(f"{overrides} is damaged: it should be a list of overrides.")
    for override in earlier:
        _refuse_foreign(override, overrides)
    return earlier


def _is_resume(argument: str) -> bool:
    return argument.lstrip("+").startswith(_KEY)


def _refuse_foreign(override: str, source: Path) -> None:
    # Hydra's own settings name classes and functions that it calls, and a flag can bring a whole config folder:
    # neither is ever among the overrides of a run, so here it is somebody's attempt to run code.
    if override.startswith("-") or "hydra" in override.partition("=")[0].lower():
        raise UserError(f"{source} holds '{override[:60]}', which is no option of a run: it was not resumed.")


def _refuse_used_folder(arguments: Sequence[str]) -> None:
    for argument in arguments:
        key, _, value = argument.partition("=")
        folder = Path(value.strip("'\""))
        if key == "hydra.run.dir" and (folder / "checkpoints" / "last.ckpt").exists():
            raise UserError(
                f"{folder} already holds a run: go on with resume={folder}, or give another folder."
            )
