"""From a composed config, in plain data, to the objects of a run."""

import logging
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import TensorBoardLogger
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
from segmentation.options import call
from segmentation.report import protocol
from segmentation.task import SegmentationTask

THRESHOLD = 0.5
"""Probability from which a pixel of binary data is foreground."""

log = logging.getLogger(__name__)

Config = Mapping[str, Any]


def build_data(config: Config, source: Source) -> SegmentationData:
    """Loaders over the source, augmented as configured."""
    transform = call("augmentation", training_transform, **_shape(config), **config["augmentation"])
    return call("data", SegmentationData, source, transform, seed=config["seed"], **config["data"])


def build_model(config: Config, classes: Classes) -> Segmenter:
    """The segmenter with its first weights, and a line in the log that says where they came from."""
    backbone, head = dict(config["backbone"]), dict(config["head"])
    weights, output_stride = str(config["weights"]), config["output_stride"]
    if backbone["norm_momentum"] == "auto":
        backbone["norm_momentum"] = 0.1 if weights == "none" else None
    if head.get("rates", 0) is None:
        head["rates"] = pretrained_rates(backbone["name"], weights, output_stride)
    del head["aux_weight"]  # the task's: the model is the same whatever the share
    model = call(
        "model",
        create_segmenter,
        backbone=backbone,
        aux=head.pop("aux"),
        head=head,
        outputs=classes.outputs,
        output_stride=output_stride,
    )
    log.info("%s", load_weights(model, weights))
    return model.to(memory_format=torch.channels_last) if config["channels_last"] else model


def build_task(config: Config, source: Source) -> SegmentationTask:
    """The model with its loss, optimizer and schedules, and what its checkpoints say of it."""
    classes = source.classes
    model = build_model(config, classes)
    loss, loss_options = _named(config["loss"])
    optimizer, optimizer_options = _named(config["optimizer"])
    scheduler, scheduler_options = _named(config["scheduler"])
    rules = protocol(source, threshold=THRESHOLD, **_shape(config))
    return SegmentationTask(
        model,
        loss=create_loss(loss, binary=classes.binary, classes=len(classes), **loss_options),
        classes=classes,
        optimizer=partial(create_optimizer, optimizer, **optimizer_options),
        schedulers=partial(create_schedulers, scheduler, **scheduler_options),
        aux_weight=config["head"]["aux_weight"],
        threshold=THRESHOLD,
        describe=partial(describe, model, classes, threshold=THRESHOLD, protocol=rules, **_shape(config)),
    )


def build_trainer(config: Config, folder: Path, classes: Classes, history: History) -> Trainer:
    """Lightning's Trainer with the run's callbacks and loggers.

    Raises `UserError` for an argument that it refuses.
    """
    options = dict(config["trainer"])
    if options["enable_progress_bar"] == "auto":
        options["enable_progress_bar"] = sys.stderr.isatty()
    callbacks = build_callbacks(
        config["callbacks"], folder, binary=classes.binary, progress_bar=options["enable_progress_bar"]
    )
    board = TensorBoardLogger(folder, name="tensorboard", version="", default_hp_metric=False)
    try:
        return Trainer(
            **options,
            callbacks=callbacks,
            logger=[history, board] if config["logger"]["tensorboard"] else [history],
            precision=choose_precision(config["precision"]),
            default_root_dir=folder,
            num_sanity_val_steps=0,
            enable_model_summary=False,
        )
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise UserError(f"trainer: {str(error).splitlines()[0]}") from error


def choose_precision(precision: str) -> Any:
    """Lightning's name of the precision; "auto" is bf16 where the hardware computes in it, else fp32.

    On a GPU without bf16 "auto" is fp16 with loss scaling. Raises `UserError` for an unknown name.
    """
    choices = ("auto", "32-true", "bf16-mixed", "16-mixed")
    if precision not in choices:
        raise UserError(f"precision={precision} is unknown. Choose from: {', '.join(choices)}.")
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if torch.cpu._is_avx512_bf16_supported() else "32-true"


def _named(section: Config) -> tuple[str, dict[str, Any]]:
    options = dict(section)
    return options.pop("name"), options


def _shape(config: Config) -> dict[str, Any]:
    height, width = config["data"]["size"]
    return {"size": (height, width), "resize": config["data"]["resize"]}
