"""`resume=RUN`: the run's own overrides, then those typed now, in the run's own folder."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from segmentation.errors import UserError

_KEY = "resume="


def resumed(arguments: Sequence[str]) -> list[str]:
    """Command line arguments -> the same, with those of the run that `resume=RUN` names before them.

    What is typed beside it holds for this time only. Raises `UserError` where RUN is no run folder or has no
    checkpoint to go on from, and where a new run would be written over an old one.
    """
    runs = [argument.lstrip("+").removeprefix(_KEY) for argument in arguments if _is_resume(argument)]
    if not runs or runs[-1] in ("", "null"):
        _refuse_used_folder(arguments)
        return list(arguments)
    folder = Path(runs[-1].strip("'\"")).expanduser().resolve()
    overrides = folder / ".hydra" / "overrides.yaml"
    if not overrides.is_file():
        raise UserError(
            f"resume={runs[-1]} is no run folder: it has no .hydra/overrides.yaml. Give outputs/NAME/DATE_TIME."
        )
    if not (folder / "checkpoints" / "last.ckpt").is_file():
        raise UserError(
            f"resume={runs[-1]} has no checkpoints/last.ckpt: no epoch was finished. Start it anew."
        )
    try:
        earlier = yaml.safe_load(overrides.read_text())
    except yaml.YAMLError:
        earlier = None
    if not isinstance(earlier, list) or not all(isinstance(override, str) for override in earlier):
        raise UserError(f"{overrides} is damaged: it should be a list of overrides.")
    for override in earlier:
        _refuse_foreign(override, overrides)
    kept = [override for override in earlier if not _is_resume(override)]
    typed = [argument for argument in arguments if not _is_resume(argument)]
    # The run keeps its own .hydra: a mistyped resume must not change what the run is.
    there = [f"{_KEY}{_quoted(folder)}", f"hydra.run.dir={_quoted(folder)}", "hydra.output_subdir=null"]
    return [*kept, *typed, *there]


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
        if key == "hydra.run.dir" and (folder / "checkpoints").exists():
            raise UserError(
                f"{folder} already holds a run: go on with resume={folder}, or give another folder."
            )


def _quoted(path: Path) -> str:
    # Hydra's grammar gives meaning to = , and spaces, which folder names do hold.
    return "'" + str(path).replace("'", "\\'") + "'"
