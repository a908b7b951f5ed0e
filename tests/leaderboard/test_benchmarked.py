"""Latencies from results of benchmark.py."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_runs import described, made, write_run

from segmentation.errors import UserError
from segmentation.leaderboard.boards import boards
from segmentation.leaderboard.latency import add_latencies, benchmarked
from segmentation.leaderboard.runs import read_runs

RESULT = {
    "model": described("resnet18"),
    "input": {"channels": 3, "size": [64, 64]},
    "precision": "32-true",
    "channels_last": True,
    "measurements": [
        {"mode": "infer", "batch_size": 8, "median_ms": 99.0},
        {"mode": "train", "batch_size": 1, "median_ms": 77.0},
        {"mode": "infer", "batch_size": 1, "median_ms": 12.5},
    ],
    "environment": {"device": "a processor, 2 threads", "date": "2026-01-02T03:04:05+00:00"},
}


def write(folder: Path, *changes: tuple[str, Any]) -> None:
    """Write a result with changed values of `section.key`."""
    content: dict[str, Any] = deepcopy(RESULT)
    for place, value in changes:
        *sections, key = place.split(".")
        part = content
        for section in sections:
            part = part[section]
        part[key] = value
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(content))


def test_rows_get_the_latency_of_their_model(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "a", miou=0.7)
    write_run(tmp_path / "runs" / "b", miou=0.5, backbone="resnet50")
    write(tmp_path / "speed" / "0")
    made(f"runs={tmp_path / 'runs'}", f"benchmarks={tmp_path / 'speed'}")
    text = (tmp_path / "runs" / "leaderboard.md").read_text()
    assert "| 1 | 1.0 | 12.5 |" in text and "| 1 | 1.0 | - |" in text
    assert "measured it on a processor, 2 threads, 32-true, channels last." in text


def test_a_planned_size_counts(tmp_path: Path) -> None:
    """It is no option of a board, because nobody chose it, but a latency depends on it."""
    for size in ([64, 64], [32, 32]):
        folder = write_run(tmp_path / "runs" / str(size[0]), protocol={"scored_at": str(size)})
        planned = {"data": {"size": size, "batch_size": 8}, "planned": ["data.size"]}
        config = yaml.safe_load((folder / "config.yaml").read_text())
        (folder / "config.yaml").write_text(yaml.safe_dump(config | planned))
    write(tmp_path / "speed" / "0")
    measure, _ = benchmarked(tmp_path / "speed")
    runs = read_runs([tmp_path / "runs"])
    assert {run.name: measure(run) for run in runs} == {"64": 12.5, "32": None}
    times = iter((1.0, 2.0))
    made = add_latencies(boards(runs, "val/miou"), lambda run: next(times))
    assert {row.latency_ms for board in made for row in board.rows} == {1.0, 2.0}


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        (("model.backbone.source", "timm"), False),
        (("model.head.rates", [6, 12]), False),
        (("model.channels", 4), False),
        (("model.outputs", 21), False),
        (("model.output_stride", 8), False),
        (("input.size", [64, 96]), False),
        # What training alone uses.
        (("model.backbone.norm_momentum", 0.01), True),
        (("model.aux", True), True),
    ],
)
def test_another_model_has_another_latency(change: tuple[str, Any], fits: bool, tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "a")
    write(tmp_path / "speed" / "0", change)
    measure, _ = benchmarked(tmp_path / "speed")
    assert measure(read_runs([tmp_path / "runs"])[0]) == (12.5 if fits else None)
    if not fits:
        with pytest.raises(UserError, match=r"none of these models.*outputs=4.*data\.size=\[64, 64\]"):
            made(f"runs={tmp_path / 'runs'}", f"benchmarks={tmp_path / 'speed'}")


@pytest.mark.parametrize(
    "change",
    [
        ("environment.device", "a processor, 4 threads"),
        ("precision", "bf16-mixed"),
        ("channels_last", False),
    ],
)
def test_results_under_different_conditions_are_refused(change: tuple[str, Any], tmp_path: Path) -> None:
    write(tmp_path / "0")
    write(tmp_path / "1", ("model.backbone.name", "resnet50"), change)
    with pytest.raises(UserError, match="do not compare"):
        benchmarked(tmp_path)


def test_the_newest_of_several_results_counts(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "a")
    newer = ("environment.date", "2026-02-02T03:04:05+00:00")
    write(tmp_path / "0", newer, ("measurements", [{"mode": "infer", "batch_size": 1, "median_ms": 1.5}]))
    write(tmp_path / "1")
    measure, _ = benchmarked(tmp_path)
    assert measure(read_runs([tmp_path / "runs"])[0]) == 1.5


def test_a_damaged_result_is_named(tmp_path: Path) -> None:
    write(tmp_path / "0", ("environment.date", "yesterday"))
    with pytest.raises(UserError, match=r"0/result\.json is damaged"):
        benchmarked(tmp_path)
