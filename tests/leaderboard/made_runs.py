"""Makers of run folders, without any training."""

import json
from pathlib import Path
from typing import Any

import yaml
from conftest import CONF
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from segmentation.leaderboard import leaderboard

PROTOCOL = {
    "scored_at": "the size of each mask file",
    "input": "resized to 64x64",
    "split_sha256": {"train": "aaa", "val": "bbb", "test": "ccc"},
}


def described(backbone: str) -> dict[str, Any]:
    """The description of a model in reports and benchmarks."""
    return {
        "backbone": {"source": "torchvision", "name": backbone, "norm_momentum": 0.1},
        "head": {"name": "fcn"},
        "outputs": 4,
        "output_stride": 16,
        "channels": 3,
        "aux": False,
    }


def write_run(
    folder: Path,
    *,
    miou: float | None = 0.5,
    backbone: str = "resnet18",
    loss: dict[str, Any] | None = None,
    seed: int = 1,
    parameters: int = 1_000_000,
    finished: bool = True,
    protocol: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    baseline: dict[str, Any] | None = None,
    **options: Any,
) -> Path:
    """Write a run with these options; its test mIoU is 0.1 below its validation mIoU."""
    folder.mkdir(parents=True)
    config = {
        "name": f"shapes_{backbone}",
        "seed": seed,
        "resume": None,
        "backbone": {"name": backbone},
        "loss": loss or {"name": "dice", "smooth": 1.0},
        "data": {"size": [64, 64], "batch_size": 8},
        **options,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "config.yaml").write_text("not: a run")
    if finished:
        metrics = {"val/miou": miou, "test/miou": None if miou is None else miou - 0.1, "val/loss": 1.0}
        report = {
            "metrics": metrics,
            "protocol": {**PROTOCOL, "checkpoint": f"best.ckpt, epoch {seed}", **(protocol or {})},
            "model": {**described(backbone), "parameters": parameters},
            "data": {"name": "shapes", "images": {"train": 3}, "notes": [], **(data or {})},
            **({"baseline": baseline} if baseline else {}),
        }
        (folder / "report.json").write_text(json.dumps(report))
    return folder


def made(*overrides: str) -> float:
    """Run the leaderboard with these overrides."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_container(compose("leaderboard", list(overrides)), resolve=True)
    assert isinstance(config, dict)
    return leaderboard({str(key): value for key, value in config.items()})
