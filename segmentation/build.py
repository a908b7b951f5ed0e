"""From a composed config, in plain data, to the objects of a run."""

import logging
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import Logger, TensorBoardLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from segmentation.callbacks import History, build_callbacks
from segmentation.checkpoint import describe
from segmentation.classes import Classes
from segmentation.data.augmentation import training_transform
from segmentation.data.datamodule import SegmentationData
from segmentation.data.source import Source
from segmentation.errors import UserError
from segmentation.losses import create_loss
from segmentation.models import Segmenter, create_segmenter, load_weights, pretrained_rates
from segmentation.optim import create_optimizer, create_schedulers
from segmentation.options import call, checked
from segmentation.report import protocol
from segmentation.settings import Section, Settings
from segmentation.task import SegmentationTask

THRESHOLD = 0.5
"""Probability from which a pixel of binary data is foreground."""

log = logging.getLogger(__name__)


def build_data(settings: Settings, source: Source) -> SegmentationData:
    """Loaders over the source, augmented as configured.

    Raises `UserError` for an augmentation that is not possible and a size that leaves the model one cell.
    """
    if min(settings.data.size) <= settings.output_stride:
        raise UserError(
            f"data.size={list(settings.data.size)} leaves one cell of features at "
            f"output_stride={settings.output_stride}: give a larger size."
        )
    transform = call("augmentation", training_transform, **settings.data.input, **settings.augmentation)
    return SegmentationData(source, transform, settings.data, seed=settings.seed)


def build_model(settings: Settings, classes: Classes) -> Segmenter:
    """The segmenter with its first weights, and a line in the log that says where they came from."""
    backbone, head = dict(settings.backbone), dict(settings.head)
    if backbone["norm_momentum"] == "auto":
        backbone["norm_momentum"] = 0.1 if settings.weights == "none" else None
    if head.get("rates", 0) is None:
        head["rates"] = pretrained_rates(backbone["name"], settings.weights, settings.output_stride)
    del head["aux_weight"]  # the task's: the model is the same whatever the share
    model = call(
        "model",
        create_segmenter,
        backbone=backbone,
        aux=head.pop("aux"),
        head=head,
        outputs=classes.outputs,
        output_stride=settings.output_stride,
    )
    log.info("%s", load_weights(model, settings.weights))
    return model.to(memory_format=torch.channels_last) if settings.channels_last else model


def build_task(settings: Settings, source: Source) -> SegmentationTask:
    """The model with its loss, optimizer and schedules, and what its checkpoints say of it."""
    classes, about = source.classes, settings.data.input
    model = build_model(settings, classes)
    loss, loss_options = _named(settings.loss)
    optimizer, optimizer_options = _named(settings.optimizer)
    scheduler, scheduler_options = _named(settings.scheduler)
    rules = protocol(source, threshold=THRESHOLD, **about)
    return SegmentationTask(
        model,
        loss=create_loss(loss, binary=classes.binary, classes=len(classes), **loss_options),
        classes=classes,
        optimizer=partial(create_optimizer, optimizer, **optimizer_options),
        schedulers=partial(create_schedulers, scheduler, **scheduler_options),
        aux_weight=settings.head["aux_weight"],
        threshold=THRESHOLD,
        describe=partial(describe, model, classes, threshold=THRESHOLD, protocol=rules, **about),
    )


def build_trainer(settings: Settings, folder: Path, classes: Classes, history: History) -> Trainer:
    """Lightning's Trainer with the run's callbacks and loggers.

    Raises `UserError` for an argument that it does not have or refuses.
    """
    options = dict(settings.trainer)
    if options["enable_progress_bar"] == "auto":
        options["enable_progress_bar"] = sys.stderr.isatty()
    options = checked("trainer", Trainer, options)
    for option in ("max_epochs", "limit_train_batches", "limit_val_batches", "limit_test_batches"):
        if not options[option] or options[option] < 0:
            raise UserError(
                f"trainer.{option}={options[option]}: give a number above 0, or there is no result."
            )
    callbacks = build_callbacks(
        settings.callbacks, folder, binary=classes.binary, progress_bar=options["enable_progress_bar"]
    )
    try:
        return Trainer(
            **options,
            callbacks=callbacks,
            logger=[history, *call("logger", _loggers, folder, **settings.logger)],
            precision=choose_precision(settings.precision),
            default_root_dir=folder,
            num_sanity_val_steps=0,
            enable_model_summary=False,
        )
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise UserError(f"trainer: {str(error).splitlines()[0]}") from error


def choose_precision(precision: str) -> Any:
    """Lightning's name of the precision; "auto" is bf16 where the hardware computes in it, else fp32.

    On a GPU without bf16 "auto" is fp16 with loss scaling.
    """
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if torch.cpu._is_avx512_bf16_supported() else "32-true"


def _loggers(folder: Path, *, tensorboard: bool) -> list[Logger]:
    board = partial(TensorBoardLogger, folder, name="tensorboard", version="", default_hp_metric=False)
    return [board()] if tensorboard else []


def _named(section: Section) -> tuple[str, Section]:
    options = dict(section)
    return options.pop("name"), options
