"""Run folders as `train.py` leaves them, finished or not."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from segmentation.errors import UserError
from segmentation.options import flat

_PARTS = ("metrics", "protocol", "model", "data")


@dataclass(frozen=True)
class Run:
    """A run by its name under the folder that was asked for.

    `options` is its config, `section.option` -> value. `report` is what came of it; where there is none,
    `reason` says why. `note` is what should stand beside its numbers.
    """

    name: str
    folder: Path
    options: Mapping[str, Any]
    report: Mapping[str, Any] | None
    reason: str
    note: str

    def score(self, metric: str) -> float | None:
        """None where the run has no such number."""
        value = self.report["metrics"].get(metric) if self.report else None
        return None if value is None else float(value)


def read_runs(folders: Iterable[Path]) -> list[Run]:
    """The runs at any depth under these folders, by name.

    Raises `UserError` for a folder that is not there or holds none, and for damaged files.
    """
    runs = []
    for top in folders:
        if not top.is_dir():
            raise UserError(
                f"runs={top} is no folder: give one with runs in it, such as outputs/sweeps/NAME."
            )
        marks = [*top.rglob("config.yaml"), *top.rglob("error.txt")]
        found = sorted({mark.parent for mark in marks if mark.parent.name != ".hydra"})
        if not found:
            raise UserError(f"runs={top} holds no run of train.py: there is no config.yaml.")
        runs += [
            _read(folder, str(folder.relative_to(top)) if folder != top else folder.name) for folder in found
        ]
    return runs


def _read(folder: Path, name: str) -> Run:
    config = _parsed(folder / "config.yaml", yaml.safe_load)
    report = _parsed(folder / "report.json", json.loads)
    if report is not None and not all(isinstance(report.get(part), dict) for part in _PARTS):
        raise UserError(f"{folder / 'report.json'} is damaged: it is no report of a run.")
    note = _last_line(folder / "pruned.txt")
    options = _choices(folder, config or {}) | flat(config or {})
    return Run(name, folder, options, report, "" if report else _reason(folder), note)


def _choices(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """The names of the groups' options (`augmentation.name`), which not every section holds itself."""
    kept = _parsed(folder / ".hydra" / "hydra.yaml", yaml.safe_load) or {}
    hydra = kept.get("hydra")
    runtime = hydra.get("runtime") if isinstance(hydra, dict) else None
    choices = runtime.get("choices") if isinstance(runtime, dict) else None
    if not isinstance(choices, dict):
        return {}
    return {f"{group}.name": name for group, name in choices.items() if isinstance(config.get(group), dict)}


def _reason(folder: Path) -> str:
    if told := _last_line(folder / "error.txt"):
        return told
    history = folder / "metrics.csv"
    epochs = len(history.read_text().splitlines()) - 1 if history.is_file() else 0
    return f"not finished: {epochs} whole epoch(s) so far"


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").split("\n") if path.is_file() else []
    return next((line for line in reversed(lines) if line.strip()), "")


def _parsed(path: Path, parse: Any) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        content = parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        content = None
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: delete its run, or start it again.")
    return content
