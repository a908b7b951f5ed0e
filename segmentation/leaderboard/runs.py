"""Find and read the folders of training runs, finished or not."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, Strict, TypeAdapter, ValidationError

from segmentation.errors import UserError, one_line
from segmentation.options import flat
from segmentation.reading import last_line, read_json, read_text, read_yaml
from segmentation.report.report import baseline_note, constant_note

_PATH_OPTIONS = ("root", "classes", "split")
"""Options of a data set that are paths."""


@dataclass(frozen=True)
class Run:
    """A training run, named by its path below the requested folder.

    `options` is its config as `section.option` -> value, without what was planned from the data. `report` is the
    content of report.json; without one, `reason` says why. `note` is shown beside its scores. `ended` is the time of
    its report, in seconds since 1970. `size` is [height, width] of its images, chosen or planned.
    """

    name: str
    folder: Path
    options: Mapping[str, Any]
    report: Mapping[str, Any] | None
    reason: str
    note: str
    ended: float = 0.0
    size: Any = None

    def score(self, metric: str) -> float | None:
        """The value of the metric, or None."""
        value = self.report["metrics"].get(metric) if self.report else None
        return None if value is None else float(value)


def read_run(folder: Path, name: str) -> Run:
    """Read a run. One that cannot be read counts as unfinished, with the damaged file as reason."""
    try:
        return _read(folder, name)
    except _DamagedError as file:
        return Run(name, folder, {}, None, f"{file} is damaged: delete the run, or start it again", "")
    except (OSError, UserError, ValueError, TypeError, RuntimeError) as error:
        return Run(name, folder, {}, None, one_line(f"cannot be read: {error}"), "")


class _DamagedError(Exception):
    """A file of a run is damaged; the message is its name."""


_Scores = dict[str, Annotated[float, Strict()] | None]


@dataclass(frozen=True)
class _Protocol:
    split_sha256: dict[str, str]


@dataclass(frozen=True)
class _Model:
    backbone: dict[str, Any]
    head: dict[str, Any]
    parameters: Annotated[int, Field(ge=0, lt=2**63)]


@dataclass(frozen=True)
class _Baseline:
    everywhere: str
    metrics: _Scores
    model_predicts_only: str | None


@dataclass(frozen=True)
class _Report:
    """The entries of report.json that a board needs."""

    metrics: _Scores
    protocol: _Protocol
    model: _Model
    data: dict[str, Any]
    baseline: _Baseline | None = None


def _read(folder: Path, name: str) -> Run:
    config = _parsed(folder, "config.yaml", read_yaml) or {}
    report = _parsed(folder, "report.json", read_json)
    runtime = _runtime(folder)
    start = Path(str(runtime.get("cwd") or ""))
    options = _choices(runtime, config) | flat(
        {**config, "dataset": _with_absolute_paths(config.get("dataset"), start)}
    )
    size = options.get("data.size")
    for key in (*(config.get("planned") or ()), "planned"):  # nobody's choice: it follows from the data
        options.pop(key, None)
    note = last_line(folder / "pruned.txt")
    if report is None:
        return Run(name, folder, options, None, _reason(folder), note)
    try:
        TypeAdapter(_Report).validate_python(report)
    except ValidationError as error:
        raise _DamagedError("report.json") from error
    if constant := constant_note(report):
        note = "; ".join(filter(None, [note, f"{constant} {baseline_note(report)}"]))
    report["data"] = _with_absolute_paths(report["data"], start)
    ended = (folder / "report.json").stat().st_mtime
    return Run(name, folder, options, report, "", note, ended, size)


def _runtime(folder: Path) -> dict[str, Any]:
    """Hydra's record of the command: its working directory and the chosen group options."""
    kept = _parsed(folder, ".hydra/hydra.yaml", read_yaml) or {}
    hydra = kept.get("hydra")
    runtime = hydra.get("runtime") if isinstance(hydra, dict) else None
    return runtime if isinstance(runtime, dict) else {}


def _choices(runtime: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The names of the chosen group options (`augmentation.name`), which not every section contains."""
    choices = runtime.get("choices")
    if not isinstance(choices, dict):
        return {}
    return {f"{group}.name": name for group, name in choices.items() if isinstance(config.get(group), dict)}


def _with_absolute_paths(data: Any, start: Path) -> Any:
    """The options of a data set with absolute paths; relative ones start at `start`."""
    if not isinstance(data, Mapping):
        return data
    return {
        key: str((start / Path(value).expanduser()).resolve())
        if key in _PATH_OPTIONS and isinstance(value, str)
        else value
        for key, value in data.items()
    }


def _reason(folder: Path) -> str:
    if told := last_line(folder / "error.txt"):
        return told
    history = folder / "metrics.csv"
    epochs = len(read_text(history).splitlines()) - 1 if history.is_file() else 0
    return f"not finished: {max(epochs, 0)} whole epoch(s) so far"


def _parsed(folder: Path, name: str, read: Callable[[Path], Any]) -> dict[str, Any] | None:
    path = folder / name
    if not path.exists():
        return None
    try:
        content = read(path)
    except (OSError, UserError) as error:
        raise _DamagedError(name) from error
    if not isinstance(content, dict):
        raise _DamagedError(name)
    return content


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """All runs at any depth below these folders, each once, named by their path below the common parent.

    Raises `UserError` for an empty list, a missing folder, and a folder without runs.
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
