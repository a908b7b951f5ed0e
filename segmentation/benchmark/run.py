"""One model, measured: `benchmark.py` calls this."""

import json
import logging
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch

from segmentation import build
from segmentation.benchmark.memory import peak_memory
from segmentation.benchmark.row import RESULT
from segmentation.benchmark.scores import read_scores, score_of
from segmentation.benchmark.settings import BenchmarkSettings, read_settings
from segmentation.benchmark.timing import measure
from segmentation.benchmark.work import count_flops, count_parameters
from segmentation.benchmark.workload import Workload
from segmentation.environment import command_line, device_name, versions
from segmentation.errors import UserError
from segmentation.losses import create_loss
from segmentation.optim import create_optimizer
from segmentation.precision import choose_precision
from segmentation.quiet import hushed

log = logging.getLogger(__name__)


@hushed()
def benchmark(config: Mapping[str, Any], folder: Path) -> float:
    """Measures the composed model and writes `result.json`; the value is its images a second in prediction.

    Raises `UserError` for whatever in the config the user can mend, also a batch that a GPU cannot hold.
    """
    settings = read_settings(config)
    runs = [settings.runs] if isinstance(settings.runs, str) else settings.runs or []
    reports = read_scores(runs)
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True  # as in training
    workload = _workload(settings)
    model = workload.model
    measurements = list(_measurements(workload, settings))
    result = {
        "model": model.description,
        "parameters": count_parameters(model),
        "flops": count_flops(model, (1, *workload.shape)),
        "output_stride": model.output_stride,
        "input": {"channels": settings.data.channels, "size": list(settings.data.size)},
        "batch_size": settings.data.batch_size,
        "precision": workload.precision,
        "channels_last": settings.channels_last,
        "loss": settings.loss.get("name"),
        "optimizer": settings.optimizer.get("name"),
        "measurements": measurements,
        "score": score_of(model.description, reports),
        "environment": {"device": device_name(), **versions(), **_occasion()},
    }
    (folder / RESULT).write_text(json.dumps(result, indent=2) + "\n")
    rate: float = measurements[-1]["images_per_second"]
    log.info(
        "%s with %s: %.4g images/s",
        model.description["backbone"]["name"],
        model.description["head"]["name"],
        rate,
    )
    return rate


def _workload(settings: BenchmarkSettings) -> Workload:
    classes = settings.classes
    loss = {"name": "", **settings.loss}
    optimizer = {"name": "", **settings.optimizer}
    model = build.build_model(settings, classes)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Workload(
        model.to(device),
        loss=create_loss(**loss, binary=classes.binary, classes=len(classes)).to(device),
        optimizer=partial(create_optimizer, optimizer.pop("name"), **optimizer),
        aux_weight=build.split_head(settings.head)[0].aux_weight,
        classes=len(classes),
        shape=(settings.data.channels, *settings.data.size),
        precision=choose_precision(settings.precision, device),
        device=device,
    )


def _measurements(workload: Workload, settings: BenchmarkSettings) -> Iterator[dict[str, Any]]:
    """Training, then inference; one image, then the batch."""
    synchronise = torch.cuda.synchronize if workload.device.type == "cuda" else _nothing
    for mode, begin in (("train", workload.training), ("infer", workload.inference)):
        for batch_size in sorted({1, settings.data.batch_size}):
            try:
                step, resident = begin(batch_size)
                peak = peak_memory(step, resident, workload.device)
                timing = measure(step, settings.measure, synchronise=synchronise)
            except torch.OutOfMemoryError as error:
                raise UserError(
                    f"The GPU's memory does not hold {mode} steps of data.batch_size={batch_size} at"
                    f" data.size={list(settings.data.size)}: give smaller ones."
                ) from error
            yield {
                "mode": mode,
                "batch_size": batch_size,
                "steps": timing.steps,
                "median_ms": timing.median * 1e3,
                "quartile_range_ms": timing.spread * 1e3,
                "images_per_second": batch_size / timing.median,
                "peak_bytes": peak,
            }


def _nothing() -> None:
    """A processor is done when its call returns."""


def _occasion() -> dict[str, str | int]:
    return {
        "threads": torch.get_num_threads(),
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": command_line(),
    }
