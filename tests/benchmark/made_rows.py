"""Makers of benchmark results, without any measurement."""

import json
from pathlib import Path
from typing import Any


def write_result(folder: Path, backbone: str, **changes: Any) -> None:
    """Write a `result.json` as a job does; `changes` replace its entries."""
    measurements = [
        {
            "mode": mode,
            "batch_size": batch_size,
            "steps": 5,
            "median_ms": milliseconds,
            "quartile_range_ms": milliseconds / 20,
            "images_per_second": batch_size * 1e3 / milliseconds,
            "peak_bytes": 123_000_000,
        }
        for mode, batch_size, milliseconds in (
            ("train", 1, 20.0),
            ("train", 4, 40.0),
            ("infer", 1, 5.0),
            ("infer", 4, 8.0),
        )
    ]
    result = {
        "model": {"backbone": {"name": backbone}, "head": {"name": "fcn"}, "outputs": 21, "aux": False},
        "parameters": 11_250_000,
        "flops": 2_500_000_000,
        "output_stride": 16,
        "input": {"channels": 3, "size": [64, 96]},
        "batch_size": 4,
        "precision": "32-true",
        "channels_last": True,
        "loss": "ce_dice",
        "optimizer": "adamw",
        "measurements": measurements,
        "score": None,
        "environment": {
            "device": "a test device",
            "torch": "2.15.0",
            "torchvision": "0.29.2",
            "date": "2026-11-21T10:00:00+00:00",
            "command": "python benchmark.py -m 'backbone=glob(*)'",
        },
    }
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps({**result, **changes}))


def score(mean: float) -> dict[str, Any]:
    """The score of a model as `score_of` returns it."""
    return {"metric": "test/miou", "mean": mean, "runs": 2, "data": "camvid"}
