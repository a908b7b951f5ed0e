"""Callbacks: early stopping, checkpoints, weight averaging, pictures, history, preemption."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import EMAWeightAveraging, LearningRateMonitor

from segmentation.callbacks.checkpoint import RunCheckpoint
from segmentation.callbacks.early_stopping import EarlyStopping, Pruning
from segmentation.callbacks.history import CurvesOfInterrupted, History, draw_curves
from segmentation.callbacks.loggers import build_loggers, closing, log_choices, log_summary
from segmentation.callbacks.monitoring import Progress, Throughput
from segmentation.callbacks.prediction_grid import PredictionGrid
from segmentation.callbacks.preemption import Preemption
from segmentation.errors import UserError, closest
from segmentation.metrics import scores
from segmentation.options import call
from segmentation.report.report import lower_is_better
from segmentation.task import SegmentationTask

__all__ = [
    "History",
    "Preemption",
    "build_callbacks",
    "build_loggers",
    "closing",
    "draw_curves",
    "log_choices",
    "log_summary",
]

Options = dict[str, Any]


def build_callbacks(
    config: Mapping[str, Any], folder: Path, *, binary: bool, progress_bar: bool
) -> list[Callback]:
    """The callbacks of a run in `folder`, as `conf/callbacks` names them.

    Raises `UserError` for unknown options, values out of range and metrics that are not measured.
    """
    measured = scores(torch.zeros(2, 2), binary=binary)
    names = [f"val/{name}" for name in ("loss", *measured)]
    own = partial(_callbacks, folder=folder, metrics=names, progress_bar=progress_bar)
    return call("callbacks", own, **config)


def _callbacks(
    *,
    folder: Path,
    metrics: list[str],
    progress_bar: bool,
    early_stopping: Options,
    best: Options,
    pruning: Options,
    grid: Options,
    freeze_backbone_epochs: int,
    ema_decay: float | None,
) -> list[Callback]:
    callbacks = [
        Throughput(),
        LearningRateMonitor("step"),
        Preemption(folder / "checkpoints" / "last.ckpt"),
        CurvesOfInterrupted(folder),  # after the checkpoint: a scheduler may kill the run any moment
        *call("callbacks.early_stopping", partial(_early_stopping, metrics=metrics), **early_stopping),
        *call(
            "callbacks.best", partial(_checkpoints, folder=folder / "checkpoints", metrics=metrics), **best
        ),
        *call("callbacks.pruning", partial(_pruning, folder=folder, monitor=best["monitor"]), **pruning),
        *call("callbacks.grid", partial(_grid, folder=folder), **grid),
    ]
    if freeze_backbone_epochs:
        callbacks.append(FreezeBackbone(freeze_backbone_epochs))
    if ema_decay is not None:
        callbacks.append(EMAWeightAveraging(decay=ema_decay))
    if progress_bar:
        callbacks.append(Progress())
    return callbacks


def _early_stopping(
    *, metrics: list[str], monitor: str, mode: str, patience: int | None, min_delta: float
) -> list[Callback]:
    _check_metric("callbacks.early_stopping", monitor, mode, metrics)
    if patience is None:
        return []
    return [EarlyStopping(monitor, patience=patience, min_delta=min_delta)]


def _checkpoints(*, folder: Path, metrics: list[str], monitor: str, mode: str) -> list[Callback]:
    _check_metric("callbacks.best", monitor, mode, metrics)
    return [
        RunCheckpoint(folder, "best", monitor=monitor),
        RunCheckpoint(folder, "best_loss", monitor="val/loss"),
        RunCheckpoint(folder, "last"),
    ]


def _pruning(*, folder: Path, monitor: str, least_runs: int | None, warmup_epochs: int) -> list[Callback]:
    if least_runs is None:
        return []
    return [Pruning(folder, monitor=monitor, least_runs=least_runs, warmup_epochs=warmup_epochs)]


def _grid(*, folder: Path, images: int, every_n_epochs: int) -> list[Callback]:
    return [PredictionGrid(folder, images=images, every_n_epochs=every_n_epochs)] if images else []


def _check_metric(section: str, monitor: str, mode: str, metrics: list[str]) -> None:
    if monitor not in metrics:
        raise UserError(f"{section}.monitor={monitor} is not measured.{closest(monitor, metrics)}")
    follows = "min" if lower_is_better(monitor) else "max"
    if mode not in ("auto", follows):
        raise UserError(f"{section}.mode={mode} is wrong for {monitor}: leave it out, the metric decides.")


class FreezeBackbone(Callback):
    """Freezes the backbone for the first `epochs` epochs: neither its weights nor its batch statistics change."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """For a run resumed within an epoch, which does not see the start of that epoch."""
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Freeze or unfreeze, by the epoch's number alone, so that a resumed run does the same."""
        assert isinstance(pl_module, SegmentationTask)
        frozen = trainer.current_epoch < self._epochs
        pl_module.model.backbone.requires_grad_(not frozen).train(not frozen)
