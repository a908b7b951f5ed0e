"""Measure one model: parameters, operations, memory and time of training and inference steps.

`benchmark.py` calls `benchmark`.
"""

import copy
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from segmentation import build
from segmentation.benchmark.results import RESULT, read_scores, score_of
from segmentation.config import BenchmarkSettings, read_benchmark_settings
from segmentation.environment import autocast, choose_precision, command_line, device_name, versions
from segmentation.errors import UserError
from segmentation.library_warnings import library_warnings_hidden
from segmentation.losses import create_loss
from segmentation.machine import variable
from segmentation.models import Segmenter
from segmentation.optim import create_optimizer
from segmentation.timing import measure
from segmentation.writing import write_json

log = logging.getLogger(__name__)

Step = Callable[[], None]


def count_flops(model: nn.Module, shape: tuple[int, ...]) -> int:
    """Floating point operations of one forward pass in evaluation mode, for an input of this shape.

    A multiply-add counts as two. Convolutions and matrix products count, elementwise operations do not, as is usual.
    Computed on a copy on the meta device, so the model does not change.
    """
    shadow = copy.deepcopy(model).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shadow(torch.empty(shape, device="meta"))
    return counter.get_total_flops()


def count_parameters(model: nn.Module) -> int:
    """The number of parameters, frozen ones included."""
    return sum(parameter.numel() for parameter in model.parameters())


def peak_memory(step: Step, resident: Iterable[Tensor], device: torch.device) -> int:
    """Peak memory of a step in bytes, including the `resident` tensors (weights, images).

    Takes two steps. Gradients and optimizer state must not exist before, because the first step creates them.
    """
    held = held_bytes(resident)
    return _peak_on_gpu(step, held) if device.type == "cuda" else _peak_on_cpu(step, held)


def held_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes in the storages of the tensors; a storage counts once."""
    storages = {storage.data_ptr(): storage.nbytes() for storage in map(Tensor.untyped_storage, tensors)}
    return sum(storages.values())


def _peak_on_gpu(step: Step, held: int) -> int:
    foreign = torch.cuda.memory_allocated() - held
    # The first step does not count: in it cuDNN tries algorithms that may need more memory.
    step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - foreign


def _peak_on_cpu(step: Step, held: int) -> int:
    from torch.profiler import ProfilerActivity, profile

    with (
        variable("KINETO_LOG_LEVEL", "99"),  # else the profiler writes to stderr at each start
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


@dataclass(frozen=True)
class Workload:
    """A model with its loss and optimizer, to be run on random images of raw pixels.

    `shape` is (C, H, W), `classes` the number of labels in the random masks, `precision` Lightning's name of it.
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
        """A training step with a new optimizer, and the tensors that exist before the first step."""
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
        """An inference step from raw pixels to logits, and the tensors that exist before the first step."""
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


@library_warnings_hidden()
def benchmark(config: Mapping[str, Any], folder: Path) -> float:
    """Measure the model of a composed config, write `result.json`, and return its images per second in inference.

    Raises `UserError` for wrong options and for a batch that does not fit in the GPU's memory.
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
        "environment": {"device": device_name(workload.device), **versions(), **_circumstances()},
    }
    write_json(folder / RESULT, result)
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
    make_loss = build.maker("loss", create_loss, settings.loss)
    model = build.build_model(settings, classes)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Workload(
        model.to(device),
        loss=make_loss(binary=classes.binary, classes=len(classes)).to(device),
        optimizer=build.maker("optimizer", create_optimizer, settings.optimizer),
        aux_weight=build.split_head(settings.head)[0].aux_weight,
        classes=len(classes),
        shape=(settings.data.channels, *settings.data.size),
        precision=choose_precision(settings.precision, device),
        device=device,
    )


def _measurements(workload: Workload, settings: BenchmarkSettings) -> Iterator[dict[str, Any]]:
    """Measurements of training, then inference; each for one image, then for the batch."""
    for mode, begin in (("train", workload.training), ("infer", workload.inference)):
        for batch_size in sorted({1, settings.data.batch_size}):
            try:
                step, resident = begin(batch_size)
                peak = peak_memory(step, resident, workload.device)
                timing = measure(step, settings.measure)
            except torch.OutOfMemoryError as error:
                raise UserError(
                    f"The GPU's memory is too small for {mode} steps with data.batch_size={batch_size} and"
                    f" data.size={list(settings.data.size)}: choose smaller ones."
                ) from error
            yield {
                "mode": mode,
                "batch_size": batch_size,
                "steps": len(timing.times),
                "median_ms": timing.median * 1e3,
                "quartile_range_ms": timing.iqr * 1e3,
                "images_per_second": batch_size / timing.median,
                "peak_bytes": peak,
            }


def _circumstances() -> dict[str, str | int]:
    return {
        "threads": torch.get_num_threads(),
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": command_line(),
    }
