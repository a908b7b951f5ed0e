"""Where runs are: their folders at any depth."""

import os
from collections.abc import Sequence
from pathlib import Path

from segmentation.errors import UserError
from segmentation.leaderboard.run import Run, read_run


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """The runs at any depth under these folders, each once, by name: the path below what the folders share.

    Raises `UserError` for no folder, and for one that is not there or holds no run.
    """
    if not folders:
        raise UserError("runs=[] names no folder: give one with runs in it, such as outputs/sweeps/NAME.")
    found: dict[Path, Path] = {}
    for top in folders:
        for folder in _below(top):
            found.setdefault(folder.resolve(), folder)
    shared = os.path.commonpath([top.resolve() for top in folders])
    return [read_run(folder, _name(place, shared)) for place, folder in found.items()]


def _below(top: Path) -> list[Path]:
    if not top.is_dir():
        raise UserError(f"runs={top} is no folder: give one with runs in it, such as outputs/sweeps/NAME.")
    marks = [*top.rglob("config.yaml"), *top.rglob("error.txt")]
    below = sorted({mark.parent for mark in marks if mark.parent.name != ".hydra"})
    if not below:
        raise UserError(f"runs={top} holds no run of train.py: there is no config.yaml.")
    return below


def _name(place: Path, shared: str) -> str:
    name = os.path.relpath(place, shared)
    return place.name if name == os.curdir else name
