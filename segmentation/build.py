"""Builds the objects of a run (data, model, task, trainer) from the settings."""

import inspect
import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.profilers import PyTorchProfiler
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from segmentation.callbacks import History, build_callbacks, build_loggers
from segmentation.checkpoint import describe
from segmentation.config import Auxiliary, ModelSettings, Section, TrainingSettings
from segmentation.data.augmentation import training_transform
from segmentation.data.datamodule import SegmentationData
from segmentation.data.dataset import SegmentationDataset
from segmentation.distributed import plugins, strategy_options
from segmentation.environment import choose_device, choose_precision
from segmentation.errors import UserError
from segmentation.losses import create_loss
from segmentation.models import (
    Segmenter,
    WeightsFile,
    create_segmenter,
    is_weights_file,
    known_licence,
    load_weights,
    pretrained_options,
    read_weights_file,
    weights_here,
)
from segmentation.models.compile import compile_parts
from segmentation.optim import create_optimizer, create_scheduler
from segmentation.options import call, checked
from segmentation.ranges import NOT_HERE
from segmentation.report import protocol
from segmentation.task import SegmentationTask
from segmentation.tiling import tile_of_windows
from segmentation.types import Classes

THRESHOLD = 0.5
"""Pixels of binary data with at least this probability are foreground."""

log = logging.getLogger(__name__)

Thing = TypeVar("Thing")


def build_data(settings: TrainingSettings, dataset: SegmentationDataset) -> SegmentationData:
    """The data module with the configured augmentation.

    Raises `UserError` for an invalid augmentation.
    """
    transform = call(
        "augmentation", partial(training_transform, **settings.data.input), **settings.augmentation
    )
    return SegmentationData(dataset, transform, settings.data, seed=settings.seed)


def build_model(
    settings: ModelSettings, classes: Classes, weights: str = "none", file: WeightsFile | None = None
) -> Segmenter:
    """The untrained segmenter, with the structure that the `weights` to be loaded need.

    `file` is the result of `read_weights_file(weights)`.

    Raises `UserError` for parts that do not fit together, and for images so small that the last feature map has a
    single cell.
    """
    auxiliary, head = split_head(settings.head)
    output_stride = None if settings.output_stride == "auto" else settings.output_stride
    backbone, head = pretrained_options(dict(settings.backbone), head, weights, output_stride, file)
    if backbone.get("norm_momentum") == "auto":
        backbone["norm_momentum"] = 0.1 if weights == "none" else None
    model = call(
        "model",
        create_segmenter,
        backbone=backbone,
        aux=auxiliary.aux,
        head=head,
        outputs=classes.outputs,
        output_stride=output_stride,
        channels=settings.data.channels,
    )
    if min(settings.data.size) < 2 * model.output_stride:  # some backbones round down
        raise UserError(
            f"data.size={list(settings.data.size)} gives a feature map of one cell at "
            f"output_stride={model.output_stride}: give at least {2 * model.output_stride} pixels per side."
        )
    return model.to(memory_format=torch.channels_last) if settings.channels_last else model


def with_weights(settings: TrainingSettings) -> TrainingSettings:
    """The settings with plain weights where weights=auto left them to what is on this machine."""
    if settings.weights != "auto":
        return settings
    return replace(settings, weights=weights_here(settings.backbone, str(settings.dataset.get("name"))))


def _weights_file(settings: TrainingSettings) -> WeightsFile | None:
    """The file of the initial weights. A resumed run needs none: its checkpoint has the weights, and their licence."""
    weights = settings.weights
    if settings.resume is None or not is_weights_file(weights) or Path(weights).expanduser().exists():
        return read_weights_file(weights)
    last = Path(settings.resume) / "checkpoints" / "last.ckpt"
    return read_weights_file(str(last)) if last.is_file() else WeightsFile({})


def build_task(settings: TrainingSettings, dataset: SegmentationDataset) -> SegmentationTask:
    """The model with its initial weights, loss, optimizer and schedules, and the metadata of its checkpoints."""
    settings = with_weights(settings)
    classes, inputs = dataset.classes, settings.data.input
    file = _weights_file(settings)
    model = build_model(settings, classes, settings.weights, file)
    if settings.resume is None:  # a resumed run gets its weights from the checkpoint
        log.info("%s", load_weights(model, settings.weights, file, classes.names))
        if settings.weights_mean and settings.weights_std:
            model.normalise_by(settings.weights_mean, settings.weights_std)
    licence = settings.weights_licence or known_licence(
        str(settings.backbone.get("name")), settings.weights, file
    )
    if licence:
        log.info("licence of the weights: %s", licence)
    if settings.compile:
        compile_parts(model, _device(settings.trainer.get("accelerator")))
    make_loss = maker("loss", create_loss, settings.loss)
    criterion = make_loss(binary=classes.binary, classes=len(classes))
    one_vs_rest = not classes.binary and getattr(criterion, "one_vs_rest", False)
    # A sharded model must run the same number of forward passes in every process, so it sees whole images.
    whole = settings.data.resize or settings.trainer.get("strategy") == "fsdp"
    tile = None if whole else tile_of_windows(settings.data.size)
    rules = protocol(dataset, threshold=THRESHOLD, tile=tile, **inputs)
    return SegmentationTask(
        model,
        loss=criterion,
        classes=classes,
        optimizer=maker("optimizer", create_optimizer, settings.optimizer),
        scheduler=maker("scheduler", create_scheduler, settings.scheduler),
        aux_weight=split_head(settings.head)[0].aux_weight,
        threshold=THRESHOLD,
        one_vs_rest=one_vs_rest,
        tile=tile,
        describe=partial(
            describe,
            model,
            classes,
            threshold=THRESHOLD,
            one_vs_rest=one_vs_rest,
            tile=tile,
            protocol=rules,
            dataset=settings.dataset,
            pixel_range=dataset.pixel_range,
            training={
                "loss": settings.loss["name"],
                "max_epochs": settings.trainer.get("max_epochs"),
                "weights": settings.weights,
                **({"licence": licence} if licence else {}),
            },
            **inputs,
        ),
        seed=settings.seed,
    )


def build_trainer(settings: TrainingSettings, folder: Path, classes: Classes, history: History) -> Trainer:
    """Lightning's Trainer with the run's callbacks and loggers.

    Raises `UserError` for an argument that Trainer does not have or refuses.
    """
    options = dict(settings.trainer)
    if options.get("enable_progress_bar", "auto") == "auto":
        options["enable_progress_bar"] = sys.stderr.isatty()
    if options.get("deterministic"):
        options["benchmark"] = False  # it may choose another algorithm each time
    device = _device(options.get("accelerator"))
    options["accelerator"] = (
        device.type
    )  # Lightning's auto would take Apple's GPU, which has no float64 for the sums
    ours: dict[str, Any] = dict.fromkeys(NOT_HERE)
    options = checked(
        "trainer", partial(Trainer, **ours), strategy_options(options, settings.callbacks, device)
    )
    callbacks = build_callbacks(
        settings.callbacks, folder, binary=classes.binary, progress_bar=options["enable_progress_bar"]
    )
    if options.get("profiler") == "pytorch":
        # Lightning's default would write to the folder of the checkpoints and trace every epoch.
        schedule = torch.profiler.schedule(wait=2, warmup=2, active=3, repeat=1)
        options["profiler"] = PyTorchProfiler(
            folder / "profile", "operators", schedule=schedule, acc_events=True
        )
    try:
        trainer = Trainer(
            **options,
            callbacks=callbacks,
            logger=[history, *call("logger", build_loggers, folder, **settings.logger)],
            precision=choose_precision(settings.precision, device),  # type: ignore[arg-type]
            default_root_dir=folder,
            num_sanity_val_steps=0,
            enable_model_summary=False,
            plugins=plugins(),
            use_distributed_sampler=False,  # our batch samplers distribute the images, and add none
        )
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise UserError(f"trainer: {str(error).splitlines()[0]}") from error
    if settings.data.batch_size < trainer.world_size:
        raise UserError(
            f"data.batch_size={settings.data.batch_size} is less than one image for each of the"
            f" {trainer.world_size} processes, which share each batch: increase it, or use fewer trainer.devices."
        )
    return trainer


def _device(accelerator: Any) -> torch.device:
    if accelerator == "gpu":
        choose_device(accelerator)  # there must be one
    gpu = torch.cuda.is_available() and accelerator in ("auto", "gpu", "cuda")
    return torch.device("cuda" if gpu else "cpu")


def maker(group: str, create: Callable[..., Thing], section: Section) -> Callable[..., Thing]:
    """`create` with the name and the options in a group's section.

    Raises `UserError` without a name, and for an option that is one of `create`'s own parameters.
    """
    options = dict(section)
    if "name" not in options:
        raise UserError(f"{group}.name is missing: choose {group}=OPTION.")
    name = options.pop("name")
    for option in inspect.signature(create).parameters:
        if option in options:
            raise UserError(f"There is no option '{group}.{option}'.", kind="option")
    return partial(create, name, **options)


def split_head(section: Section) -> tuple[Auxiliary, Section]:
    """Divides the options of the group head into those of the auxiliary head and those of the main head."""
    options = dict(section)
    own = {name: options.pop(name) for name in ("aux", "aux_weight") if name in options}
    return call("head", Auxiliary, **own), options
