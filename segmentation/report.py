"""Scores -> `report.json` and `report.md`: no number without its protocol."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from segmentation.data.source import Source
from segmentation.sample import IGNORE_INDEX

_HEADLINES = ("miou", "pixel_accuracy", "iou", "dice", "precision", "recall", "loss")


def protocol(source: Source, *, size: tuple[int, int], resize: bool, threshold: float) -> dict[str, Any]:
    """How the numbers of a run are taken, in plain data."""
    binary = source.classes.binary
    return {
        "scored_at": "the size of each mask file; logits are resized to it, bilinear, corners not aligned",
        "input": f"resized to {size[0]}x{size[1]}" if resize else "the image's own size",
        "counts": "one confusion matrix over all pixels of the split",
        "miou": "mean over the classes that occur in truth or prediction; the others do not count",
        "binary_scores": "of the foreground" if binary else None,
        "threshold": threshold if binary else None,
        "ignore_index": IGNORE_INDEX,
        "loss": "of each image at its mask's size, averaged with its valid pixels as weights",
        "test_time_augmentation": "none",
        "split_sha256": {split: split_hash(names) for split, names in source.names().items()},
    }


def split_hash(names: Iterable[str]) -> str:
    """A fingerprint of which images a split holds, whatever their order."""
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:16]


def write_report(folder: Path, report: Mapping[str, Any]) -> None:
    """Writes `report.json` (a number that does not exist is null) and `report.md` into `folder`."""
    text = json.dumps(_plain(report), indent=2, allow_nan=False)
    (folder / "report.json").write_text(text + "\n")
    (folder / "report.md").write_text(markdown(report))


def markdown(report: Mapping[str, Any]) -> str:
    """The report as a page: headline table, classes, protocol."""
    metrics: Mapping[str, float] = report["metrics"]
    splits = [split for split in ("val", "test") if f"{split}/miou" in metrics]
    lines = ["# Report", "", f"| metric | {' | '.join(splits)} |", "| --- |" + " ---: |" * len(splits)]
    for name in _HEADLINES:
        values = [metrics.get(f"{split}/{name}") for split in splits]
        if any(value is not None for value in values):
            lines.append(f"| {name} | {' | '.join(_number(value) for value in values)} |")
    lines += ["", "## Classes of the test split", "", "| class | IoU | precision | recall | pixels |"]
    lines += ["| --- | ---: | ---: | ---: | ---: |"]
    for name, row in report["per_class"].items():
        shown = " | ".join(_number(row[key]) for key in ("iou", "precision", "recall"))
        lines.append(f"| {name} | {shown} | {int(row['pixels'])} |")
    for title in ("protocol", "model", "data", "environment"):
        lines += ["", f"## {title.capitalize()}", ""]
        lines += [f"- {key}: {value}" for key, value in report[title].items() if value is not None]
    return "\n".join(lines) + "\n"


def table(metrics: Mapping[str, float], per_class: Mapping[str, Mapping[str, float]]) -> str:
    """The few numbers that the console shows when a run ends."""
    width = max(14, *(len(name) for name in per_class))
    lines = [f"{'':{width}}  {'val':>7}  {'test':>7}"]
    for name in _HEADLINES:
        if f"test/{name}" in metrics:
            val, test = (_number(metrics.get(f"{split}/{name}")) for split in ("val", "test"))
            lines.append(f"{name:{width}}  {val:>7}  {test:>7}")
    lines += ["", f"{'test, by class':{width}}  {'IoU':>7}"]
    lines += [f"{name:{width}}  {_number(row['iou']):>7}" for name, row in per_class.items()]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.4f}"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
