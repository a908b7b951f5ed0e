"""One model, measured: `benchmark.py` calls this."""

import copy
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from segmentation import build
from segmentation.benchmark.results import RESULT
from segmentation.config import BenchmarkSettings, Budget, read_benchmark_settings
from segmentation.environment import autocast, choose_precision, command_line, device_name, variable, versions
from segmentation.errors import UserError
from segmentation.library_warnings import library_warnings_hidden
from segmentation.losses import create_loss
from segmentation.models import Segmenter
from segmentation.optim import create_optimizer

# MERGED FROM benchmark/timing: How long a step takes: the median of many, and their spread.
# MERGED FROM benchmark/work: Operations of one pass, counted by torch itself.
# MERGED FROM benchmark/memory: The most memory that a step holds at a time, exact on both kinds of device.
# MERGED FROM benchmark/workload: The two things that are done with a model, as a step to be repeated.
# MERGED FROM benchmark/scores: The mIoU of finished runs, to stand beside the speed of their models.

_LEAST = 3
"""Steps that a measurement takes however slow they are: fewer have no median to speak of."""


@dataclass(frozen=True)
class Timing:
    """Seconds a step: the median, and from the lower to the upper quartile."""

    steps: int
    median: float
    spread: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Timing":
        """The timing of these steps."""
        low, median, high = np.percentile(seconds, (25, 50, 75))
        return cls(len(seconds), float(median), float(high - low))


def measure(
    step: Callable[[], None],
    budget: Budget,
    *,
    synchronise: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Timing:
    """Times single steps until the budget is spent, at least three unless it allows fewer.

    `synchronise` waits for a device that works on while Python goes ahead; it is part of each step.
    """
    for _ in range(budget.warmup):
        step()
    synchronise()
    seconds: list[float] = []
    start = clock()
    while len(seconds) < budget.steps and (len(seconds) < _LEAST or clock() - start < budget.seconds):
        began = clock()
        step()
        synchronise()
        seconds.append(clock() - began)
    return Timing.of(seconds)


def count_flops(model: nn.Module, shape: tuple[int, ...]) -> int:
    """Floating point operations of one forward pass, in evaluation, over an input of this shape.

    A multiply-add is two. Convolutions and matrix products count; what passes value by value does not, as
    everywhere in the field. Computed on the meta device: the model is left as it is.
    """
    shadow = copy.deepcopy(model).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shadow(torch.empty(shape, device="meta"))
    return counter.get_total_flops()


def count_parameters(model: nn.Module) -> int:
    """All of them, frozen ones included."""
    return sum(parameter.numel() for parameter in model.parameters())


def peak_memory(step: Callable[[], None], resident: Iterable[Tensor], device: torch.device) -> int:
    """Bytes at the peak of a step, those of the `resident` tensors (weights, images) included.

    Gradients and the optimizer's state must not exist yet: the first of the two steps taken makes them.
    """
    held = held_bytes(resident)
    return _peak_on_gpu(step, held) if device.type == "cuda" else _peak_on_cpu(step, held)


def held_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the tensors' storages, each counted once."""
    storages = {storage.data_ptr(): storage.nbytes() for storage in map(Tensor.untyped_storage, tensors)}
    return sum(storages.values())


def _peak_on_gpu(step: Callable[[], None], held: int) -> int:
    foreign = torch.cuda.memory_allocated() - held
    # Not counted: in its first step cuDNN tries algorithms that it will not take.
    step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - foreign


def _peak_on_cpu(step: Callable[[], None], held: int) -> int:
    from torch.profiler import ProfilerActivity, profile

    with (
        variable("KINETO_LOG_LEVEL", "99"),  # the profiler's library would announce each start on stderr
        # acc_events keeps torch 2.11 from warning about events of several cycles: there is one.
        profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler,
    ):
        step()
        step()
    assert profiler.profiler is not None and profiler.profiler.kineto_results is not None
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = held
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


Step = Callable[[], None]


@dataclass(frozen=True)
class Workload:
    """A model with what its training needs, and random images as the loaders bring them: raw pixels.

    `shape` is (C, H, W); `classes` the number of labels in the random masks; `precision` is Lightning's name.
    """

    model: Segmenter
    loss: nn.Module
    optimizer: Callable[[nn.Module], torch.optim.Optimizer]
    aux_weight: float
    classes: int
    shape: tuple[int, int, int]
    precision: str
    device: torch.device

    def training(self, batch_size: int) -> tuple[Step, list[Tensor]]:
        """A step forward, backward and of a fresh optimizer; and the tensors that lie there before the first."""
        self._begin(training=True)
        image_BCHW, mask_BHW = self._batch(batch_size)
        optimizer = self.optimizer(self.model)
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "16-mixed")

        def step() -> None:
            optimizer.zero_grad()
            with autocast(self.precision, self.device):
                logits_BKHW, auxiliary_BKHW = self.model.with_auxiliary(image_BCHW)
                loss = self.loss(logits_BKHW, mask_BHW)
                if auxiliary_BKHW is not None:
                    loss = loss + self.aux_weight * self.loss(auxiliary_BKHW, mask_BHW)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()

        return step, [*self._state(), image_BCHW, mask_BHW]

    def inference(self, batch_size: int) -> tuple[Step, list[Tensor]]:
        """A pass from raw pixels to logits; and the tensors that lie there before the first."""
        self._begin(training=False)
        image_BCHW, _ = self._batch(batch_size)

        def step() -> None:
            with torch.inference_mode(), autocast(self.precision, self.device):
                self.model(image_BCHW)

        return step, [*self._state(), image_BCHW]

    def _begin(self, *, training: bool) -> None:
        self.model.train(training)
        self.model.zero_grad()

    def _state(self) -> Iterator[Tensor]:
        return chain(self.model.parameters(), self.model.buffers(), self.loss.buffers())

    def _batch(self, batch_size: int) -> tuple[Tensor, Tensor]:
        channels, height, width = self.shape
        image_BHWC = self._random(256, (batch_size, height, width, channels))
        return image_BHWC.permute(0, 3, 1, 2), self._random(self.classes, (batch_size, height, width))

    def _random(self, end: int, shape: tuple[int, ...]) -> Tensor:
        return torch.randint(end, shape, dtype=torch.uint8, device=self.device)


METRIC = "test/miou"


def read_scores(folders: Sequence[str]) -> list[dict[str, Any]]:
    """The reports (`report.json`) of all runs under these folders.

    Raises `UserError` for a folder without any, a damaged report, and where they are of several data sets:
    their scores do not compare.
    """
    reports: dict[Path, dict[str, Any]] = {}
    for folder in folders:
        # Only what a training left: an evaluation's report counts the same model again.
        runs = [path.parent for path in sorted(Path(folder).expanduser().rglob("checkpoints"))]
        found = {run.resolve(): _read(run / "report.json") for run in runs if (run / "report.json").is_file()}
        if not found:
            raise UserError(f"runs={folder} holds no finished run: there is no report.json with a {METRIC}.")
        reports |= found
    data = sorted({_data(report) for report in reports.values()})
    if len(data) > 1:
        raise UserError(
            f"runs: their data differ ({'; '.join(data)}), so their mIoU do not compare: give runs of one."
        )
    return list(reports.values())


def score_of(model: Mapping[str, Any], reports: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The mean of the runs of a model of this description's backbone, head and output stride; None without any."""
    scores = [
        report["metrics"][METRIC]
        for report in reports
        if _key(report["model"]) == _key(model) and report["metrics"][METRIC] is not None
    ]
    if not scores:
        return None
    return {
        "metric": METRIC,
        "mean": sum(scores) / len(scores),
        "runs": len(scores),
        "data": reports[0]["data"].get("name"),
    }


def _key(model: Mapping[str, Any]) -> tuple[Any, ...]:
    backbone, head = model["backbone"], model["head"]
    source = backbone.get("source", "torchvision")
    return source, backbone["name"], head["name"], model["output_stride"], model.get("channels", 3)


def _data(report: Mapping[str, Any]) -> str:
    options = {key: value for key, value in report["data"].items() if key not in ("images", "notes")}
    return ", ".join(f"{key}={value}" for key, value in options.items())


def _read(path: Path) -> dict[str, Any]:
    try:
        report: dict[str, Any] = json.loads(path.read_text())
        _key(report["model"])
        _data(report)
        value = report["metrics"][METRIC]
        if value is not None and not isinstance(value, int | float):
            raise TypeError(value)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} is damaged: it is no report of a run.") from error
    return report


log = logging.getLogger(__name__)


@library_warnings_hidden()
def benchmark(config: Mapping[str, Any], folder: Path) -> float:
    """Measures the composed model and writes `result.json`; the value is its images a second in prediction.

    Raises `UserError` for whatever in the config the user can mend, also a batch that a GPU cannot hold.
    """
    settings = read_benchmark_settings(config)
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
        "environment": {"device": device_name(workload.device), **versions(), **_occasion()},
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
