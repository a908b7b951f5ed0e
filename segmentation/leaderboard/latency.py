"""How long a model takes for one image: timed here, or as benchmark.py measured it."""

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from segmentation import checkpoint
from segmentation.errors import UserError
from segmentation.leaderboard.boards import Board, Row
from segmentation.leaderboard.runs import Run

_LEAST = 5
"""Passes that are timed however slow they are."""
_WARMUP = 2


def add_latencies(boards: Sequence[Board], measure: Callable[[Run], float | None]) -> list[Board]:
    """The boards with the latency of each row's model; rows of one model are measured once."""
    known: dict[str, float | None] = {}

    def of(row: Row) -> float | None:
        key = _key(_model(row.runs[0]), row.runs[0].options.get("data.size"))
        if key not in known:
            known[key] = measure(row.runs[0])
        return known[key]

    return [
        replace(board, rows=tuple(replace(row, latency_ms=of(row)) for row in board.rows)) for board in boards
    ]


def timed(run: Run, seconds: float) -> float | None:
    """The median of passes over one image of the run's size, in ms; None where its checkpoint cannot be used.

    From raw pixels to logits, in float32, on the GPU if there is one.
    """
    import torch

    try:
        trained = checkpoint.load(run.folder / "checkpoints" / "best.ckpt")
    except UserError:
        return None  # the scores stand without it
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = trained.model.to(device)
    image_BCHW = torch.zeros(1, trained.channels, *trained.size, dtype=torch.uint8, device=device)
    passes: list[float] = []
    with torch.inference_mode():
        for _ in range(_WARMUP):
            model(image_BCHW)
        start = time.perf_counter()
        while len(passes) < _LEAST or time.perf_counter() - start < seconds:
            began = time.perf_counter()
            model(image_BCHW)
            if device.type == "cuda":
                torch.cuda.synchronize()
            passes.append(time.perf_counter() - began)
    return 1e3 * statistics.median(passes)


def benchmarked(folder: Path) -> tuple[Callable[[Run], float | None], str]:
    """What gives a run the latency of its model and size among the results under `folder`, and how it was taken.

    Of several results for one model the newest counts.

    Raises `UserError` where there are none, and where they come from several devices, precisions or memory orders.
    """
    results = [_result(path) for path in sorted(folder.expanduser().rglob("result.json"))]
    if not results:
        raise UserError(f"benchmarks={folder} holds no result of benchmark.py: there is no result.json.")
    conditions = sorted({_conditions(result) for result in results})
    if len(conditions) > 1:
        raise UserError(
            f"benchmarks={folder}: measured on {' and on '.join(conditions)}, which do not compare: give one."
        )
    results.sort(key=lambda result: datetime.fromisoformat(result["environment"]["date"]))
    known = {_key(result["model"], result["input"]["size"]): _latency(result) for result in results}
    return lambda run: known.get(_key(_model(run), run.options.get("data.size"))), conditions[0]


def _key(model: Mapping[str, Any], size: Any) -> str:
    """All that a pass depends on: the model as it was described, without what training alone uses."""
    backbone = {key: value for key, value in model["backbone"].items() if key != "norm_momentum"}
    used = {key: value for key, value in model.items() if key != "aux"} | {"backbone": backbone}
    return json.dumps([used, size], sort_keys=True)


def _conditions(result: Mapping[str, Any]) -> str:
    # A processor's name has the number of its threads.
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
        result: dict[str, Any] = json.loads(path.read_text())
        _key(result["model"], result["input"]["size"]), _latency(result), _conditions(result)
        datetime.fromisoformat(result["environment"]["date"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        raise UserError(f"{path} is damaged: it is no result of benchmark.py.") from error
    return result
