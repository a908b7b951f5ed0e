"""Latency of a model for one image: measured here, or read from results of benchmark.py."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from segmentation import checkpoint
from segmentation.config import Budget
from segmentation.errors import UserError
from segmentation.leaderboard.boards import Board, Row
from segmentation.leaderboard.runs import Run
from segmentation.reading import read_json
from segmentation.timing import measure

_WARMUP, _MAX_STEPS = 2, 100_000


def add_latencies(boards: Sequence[Board], measure: Callable[[Run], float | None]) -> list[Board]:
    """Add the latency of its model to each row; a model in several rows is measured once."""
    known: dict[str, float | None] = {}

    def of(row: Row) -> float | None:
        key = _key(_model(row.runs[0]), row.runs[0].size)
        if key not in known:
            known[key] = measure(row.runs[0])
        return known[key]

    return [
        replace(board, rows=tuple(replace(row, latency_ms=of(row)) for row in board.rows)) for board in boards
    ]


def timed(run: Run, seconds: float) -> float | None:
    """Median latency in ms of one image of the run's size, or None if its checkpoint cannot be loaded.

    From raw pixels to logits, in float32, on the GPU if there is one.
    """
    import torch

    try:
        trained = checkpoint.load(run.folder / "checkpoints" / "best.ckpt")
    except UserError:
        return None  # the board still shows the scores
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = trained.model.to(device)
    image_BCHW = torch.zeros(1, trained.channels, *trained.size, dtype=torch.uint8, device=device)
    with torch.inference_mode():
        budget = Budget(warmup=_WARMUP, seconds=seconds, steps=_MAX_STEPS)
        return 1e3 * measure(lambda: model(image_BCHW), budget).median


def benchmarked(folder: Path) -> tuple[Callable[[Run], float | None], str]:
    """Read the results of benchmark.py below `folder`.

    Returns a function from a run to the latency in ms of its model at its size (None if not measured), and the
    conditions as text. The newest of several results of one model counts.

    Raises `UserError` without results, and if they come from several devices, precisions or memory formats.
    """
    results = [_result(path) for path in sorted(folder.expanduser().rglob("result.json"))]
    if not results:
        raise UserError(f"benchmarks={folder} holds no result of benchmark.py: there is no result.json.")
    conditions = sorted({_conditions(result) for result in results})
    if len(conditions) > 1:
        raise UserError(
            f"benchmarks={folder}: measured on {' and on '.join(conditions)}, whose times do not compare: give one."
        )
    results.sort(key=lambda result: datetime.fromisoformat(result["environment"]["date"]))
    known = {_key(result["model"], result["input"]["size"]): _latency(result) for result in results}
    return lambda run: known.get(_key(_model(run), run.size)), conditions[0]


def _key(model: Mapping[str, Any], size: Any) -> str:
    """All that the latency depends on: the description of the model without entries that only training uses."""
    backbone = {key: value for key, value in model["backbone"].items() if key != "norm_momentum"}
    used = {key: value for key, value in model.items() if key != "aux"} | {"backbone": backbone}
    return json.dumps([used, size], sort_keys=True)


def _conditions(result: Mapping[str, Any]) -> str:
    # The name of a CPU includes the number of threads.
    order = "channels last" if result["channels_last"] else "channels first"
    return f"{result['environment']['device']}, {result['precision']}, {order}"


def _model(run: Run) -> dict[str, Any]:
    assert run.report is not None
    return {key: value for key, value in run.report["model"].items() if key != "parameters"}


def _latency(result: dict[str, Any]) -> float:
    return next(
        float(part["median_ms"])
        for part in result["measurements"]
        if part["mode"] == "infer" and part["batch_size"] == 1
    )


def _result(path: Path) -> dict[str, Any]:
    try:
        result: dict[str, Any] = read_json(path)
        _key(result["model"], result["input"]["size"]), _latency(result), _conditions(result)
        datetime.fromisoformat(result["environment"]["date"])
    except (OSError, UserError, ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        raise UserError(f"{path} is damaged: it is no result of benchmark.py.") from error
    return result
