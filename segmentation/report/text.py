"""Scores -> `report.json`, `report.md` and the console: no number without its protocol."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from segmentation.files import replacing

HEADLINES = ("miou", "pixel_accuracy", "iou", "dice", "precision", "recall", "loss")

_COLUMNS = ("iou", "precision", "recall")
_SECTIONS = ("protocol", "model", "data", "environment")


def write_report(
    folder: Path,
    report: Mapping[str, Any],
    *,
    splits: Sequence[str] = ("val", "test"),
    complete: bool = False,
) -> None:
    """Writes `report.md` and then `report.json` (a number that does not exist is null) into `folder`.

    A folder with a `report.json` is finished.
    """
    write_text(folder / "report.md", markdown(report, splits=splits, complete=complete))
    write_json(folder / "report.json", report)


def write_json(path: Path, content: Any) -> None:
    """Plain data as JSON; numbers that do not exist are null."""
    write_text(path, json.dumps(_plain(content), indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """As UTF-8, whole or not at all; the odd bytes that file names may hold become question marks."""
    with replacing(path, encoding="utf-8", errors="replace") as file:
        file.write(text)


def markdown(
    report: Mapping[str, Any], *, splits: Sequence[str] = ("val", "test"), complete: bool = False
) -> str:
    """The report as a page: metrics (the headlines, or all for `complete`), classes, protocol."""
    metrics: Mapping[str, float] = report["metrics"]
    there = [split for split in splits if f"{split}/miou" in metrics]
    taken = unprefixed(metrics, there[-1])
    names = taken if complete else [name for name in HEADLINES if name in taken]
    rows = [[name, *(number(metrics.get(f"{split}/{name}")) for split in there)] for name in names]
    lines = ["# Report", "", *grid(["metric", *there], rows)]
    classes: Mapping[str, Mapping[str, float]] = report["per_class"]
    shown = [key for key in next(iter(classes.values())) if key != "pixels"] if complete else _COLUMNS
    rows = [
        [cell(name), *(number(row[key]) for key in shown), str(int(row["pixels"]))]
        for name, row in classes.items()
    ]
    lines += ["", f"## Classes of the {splits[-1]} split", ""]
    lines += grid(["class", *("IoU" if key == "iou" else key for key in shown), "pixels"], rows)
    for title in _SECTIONS:
        lines += ["", f"## {title.capitalize()}", ""]
        lines += facts(report[title])
    return "\n".join(lines) + "\n"


def table(
    metrics: Mapping[str, float],
    per_class: Mapping[str, Mapping[str, float]],
    *,
    splits: Sequence[str] = ("val", "test"),
) -> str:
    """The few numbers that the console shows when a run ends."""
    width = max(14, *(len(name) for name in per_class))
    lines = [" ".join([f"{'':{width}}", *(f"{split:>8}" for split in splits)])]
    for name in HEADLINES:
        if f"{splits[-1]}/{name}" in metrics:
            values = (number(metrics.get(f"{split}/{name}")) for split in splits)
            lines.append(" ".join([f"{name:{width}}", *(f"{value:>8}" for value in values)]))
    lines += ["", f"{splits[-1] + ', by class':{width}} {'IoU':>8}"]
    lines += [f"{name:{width}} {number(row['iou']):>8}" for name, row in per_class.items()]
    return "\n".join(lines)


def grid(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table: the first column left, numbers right."""
    lines = [f"| {' | '.join(heads)} |", "| --- |" + " ---: |" * (len(heads) - 1)]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


def cell(text: str) -> str:
    """A name as Markdown shows it, whatever it holds."""
    marked = " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|")
    return marked.replace("&", "&amp;").replace("<", "&lt;")


def facts(entries: Mapping[str, Any]) -> list[str]:
    """The lines of a Markdown list of names and values."""
    return [f"- {key}: {cell(fact(entry))}" for key, entry in there(entries).items()]


def there(entries: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that say something."""
    return {key: entry for key, entry in entries.items() if entry not in (None, "", [], {})}


def fact(entry: Any) -> str:
    """Plain data as people read it."""
    if isinstance(entry, Mapping):
        return ", ".join(f"{key} {fact(item)}" for key, item in there(entry).items())
    if isinstance(entry, list | tuple):
        return ", ".join(map(fact, entry))
    return str(entry)


def number(value: float | None) -> str:
    """Four digits, or a dash for what does not exist."""
    return "-" if value is None or math.isnan(value) else f"{value:.4f}"


def unprefixed(metrics: Mapping[str, float], split: str) -> dict[str, float]:
    """The metrics of one split by their names alone."""
    start = f"{split}/"
    return {name.removeprefix(start): value for name, value in metrics.items() if name.startswith(start)}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
