"""`result.json` -> what a table and a picture show of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULT = "result.json"
"""The file that a job leaves in its folder."""


@dataclass(frozen=True)
class Row:
    """One model. `settings` is what may differ between the rows of a table, by the name of its column."""

    backbone: str
    settings: dict[str, str]
    batch_size: int
    parameters: int
    flops: int
    train_rate: float  # images a second, by batches
    infer_rate: float
    latency_ms: float  # of the inference of one image
    peak_bytes: int  # of a training step
    spread: float  # quartiles' distance to their median, of the measurement where it is largest
    score: Mapping[str, Any] | None
    environment: Mapping[str, Any]


def read_rows(folder: Path) -> list[Row]:
    """The results in the folder itself and in its jobs' folders, the fastest in prediction first."""
    paths = sorted([*folder.glob(RESULT), *folder.glob(f"*/{RESULT}")])
    return sorted((_row(json.loads(path.read_text())) for path in paths), key=lambda row: -row.infer_rate)


def _row(result: Mapping[str, Any]) -> Row:
    batch_size = result["batch_size"]
    measured = {(part["mode"], part["batch_size"]): part for part in result["measurements"]}
    training, inference = measured["train", batch_size], measured["infer", batch_size]
    return Row(
        backbone=result["model"]["backbone"]["name"],
        settings=_settings(result),
        batch_size=batch_size,
        parameters=result["parameters"],
        flops=result["flops"],
        train_rate=training["images_per_second"],
        infer_rate=inference["images_per_second"],
        latency_ms=measured["infer", 1]["median_ms"],
        peak_bytes=training["peak_bytes"],
        spread=max(part["quartile_range_ms"] / part["median_ms"] for part in result["measurements"]),
        score=result["score"],
        environment=result["environment"],
    )


def _settings(result: Mapping[str, Any]) -> dict[str, str]:
    height, width = result["input"]["size"]
    return {
        "source": result["model"]["backbone"].get("source", "torchvision"),
        "head": result["model"]["head"]["name"],
        "stride": str(result["output_stride"]),
        "size": f"{height}x{width}",
        "channels": str(result["input"]["channels"]),
        "outputs": str(result["model"]["outputs"]),
        "batch": str(result["batch_size"]),
        "precision": result["precision"],
        "channels last": "yes" if result["channels_last"] else "no",
        "aux": "yes" if result["model"]["aux"] else "no",
        "rates": _options(result["model"]["head"].get("rates")),
        "taps": _options(result["model"]["backbone"].get("taps")),
        "loss": result["loss"],
        "optimizer": result["optimizer"],
    }


def _options(value: Any) -> str:
    return "usual" if value is None else str(value)
