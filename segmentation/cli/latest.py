"""Which run `resume=auto` goes on with."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml

from segmentation.cli.command import Command, own_options
from segmentation.cli.takeup import differences

_FOR_THIS_TIME = ("trainer.", "compile ")
"""Options that may change when a run goes on: how long, on how many devices, by kernels of its own."""


def latest_unfinished(arguments: Sequence[str]) -> Path | None:
    """The run of these options that last wrote a checkpoint, has no report, and is nobody's work now; or None.

    Looked for where a new run would be put. Raises Hydra's exceptions for what cannot be composed.
    """
    command = Command.of(arguments, "train")
    config = command.compose(command.overrides)
    place = Path(config.hydra.run.dir)
    options = own_options(config)
    settled = any(override.startswith("hydra.run.dir=") for override in command.overrides)
    found = [
        folder
        for folder in ([place] if settled else _folders(place.parent))
        if (folder / "checkpoints" / "last.ckpt").is_file()
        and not (folder / "report.json").exists()
        and _same(folder, options)
        and _is_free(folder)
    ]
    return max(found, key=lambda folder: (folder / "checkpoints" / "last.ckpt").stat().st_mtime, default=None)


def _folders(place: Path) -> Iterable[Path]:
    return place.iterdir() if place.is_dir() else ()


def _same(folder: Path, options: dict[str, object]) -> bool:
    try:
        earlier = yaml.safe_load((folder / "config.yaml").read_text())
    except (OSError, yaml.YAMLError):
        return False
    if not isinstance(earlier, dict):
        return False
    return all(difference.startswith(_FOR_THIS_TIME) for difference in differences(earlier, options))


def _is_free(folder: Path) -> bool:
    from filelock import FileLock, Timeout

    try:
        with FileLock(folder / ".lock", timeout=0):
            return True
    except Timeout:
        return False
