"""This project as a contender: its configs, loaders and runs, called as the commands call them."""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn
from tutorial import STRIDES

from segmentation.benchmark.measure import Workload
from segmentation.build import THRESHOLD, build_data, build_model, build_task
from segmentation.callbacks.history import read_history
from segmentation.checkpoint import describe
from segmentation.cli import compose
from segmentation.config import TrainingSettings, read_training_settings
from segmentation.data import open_dataset
from segmentation.data.datamodule import SegmentationData
from segmentation.data.dataset import SegmentationDataset
from segmentation.environment import choose_precision
from segmentation.models.pretrained import load_state
from segmentation.optim import create_optimizer
from segmentation.report import protocol

_RATES = "[12,24,36]"
"""torchvision's rates at any stride, so that the same operations are compared."""

Config = dict[str, Any]


def configure(root: Path, backbone: str, *overrides: str, size: tuple[int, int], batch_size: int) -> Config:
    """The config of `train.py` on the binary data of `root`, with the tutorial's loss and optimizer."""
    return compose(
        "train",
        *("dataset=binary", f"dataset.root='{root}'", "dataset.threshold=127", f"backbone={backbone}"),
        *(f"output_stride={STRIDES.get(backbone, 16)}", f"head.rates={_RATES}", "loss=bce", "optimizer=adam"),
        *(f"data.size=[{size[0]},{size[1]}]", f"data.batch_size={batch_size}"),
        *overrides,
    )


def open_settings(config: Config) -> tuple[TrainingSettings, SegmentationDataset]:
    """The validated settings and their data set."""
    settings = read_training_settings(config)
    return settings, open_dataset(settings.data.channels, settings.data.pixel_range, **settings.dataset)


def data(config: Config) -> SegmentationData:
    """The DataModule of a run."""
    return build_data(*open_settings(config))


def train_epoch(config: Config, steps: int) -> float:
    """Images per second in the last epoch of a whole `train.py` run, with loading, from its `metrics.csv`."""
    from segmentation.training import train

    config = {**config, "trainer": {**config["trainer"], "max_epochs": 2, "limit_train_batches": steps}}
    _, dataset = open_settings(config)
    with TemporaryDirectory() as folder:
        train(config, dataset, Path(folder))
        return read_history(Path(folder, "metrics.csv"))[-1]["train/images_per_second"]


def bare_step(config: Config, device: str) -> Any:
    """A function that runs one training step on a batch in memory."""
    settings, dataset = open_settings(config)
    task = build_task(settings, dataset)
    place = torch.device(device)
    options = dict(settings.optimizer)
    workload = Workload(
        task.model.to(place),
        loss=task.loss.to(place),
        optimizer=partial(create_optimizer, options.pop("name"), **options),
        aux_weight=0.0,
        classes=len(dataset.classes),
        shape=(settings.data.channels, *settings.data.size),
        precision=choose_precision(settings.precision, place),
        device=place,
    )
    return workload.training(settings.data.batch_size)[0]


def save_checkpoint(config: Config, plain: nn.Module | None, path: Path) -> Path:
    """Write a checkpoint of ours, with the weights of the tutorial's model if there is one.

    Its input is pixels in 0..1.
    """
    settings, dataset = open_settings(config)
    model, about = build_model(settings, dataset.classes), settings.data.input
    if plain is not None:
        report = load_state(model, plain.state_dict(), "the tutorial")
        assert not report.skipped, report
    model.normalise_by((0, 0, 0), (1, 1, 1))
    rules = protocol(dataset, threshold=THRESHOLD, **about)
    described = describe(
        model, dataset.classes, threshold=THRESHOLD, protocol=rules, dataset=settings.dataset, **about
    )
    weights = {f"model.{name}": value for name, value in model.state_dict().items()}
    torch.save({"state_dict": weights, "segmentation": described}, path)
    return path
