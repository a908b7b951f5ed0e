"""Evaluate checkpoints on a split, from options to report: `evaluate.py` calls this.

From the bottom up: the data that a checkpoint is evaluated on, one pass over the split, the folder of results, and
`evaluate`, which puts them together.
"""

import logging
import math
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from segmentation import checkpoint
from segmentation.config import DataSettings, EvaluationSettings
from segmentation.data import open_dataset
from segmentation.data.augmentation import evaluation_transform
from segmentation.data.datamodule import Loader, SegmentationData
from segmentation.data.dataset import Samples, SegmentationDataset, areas_of
from segmentation.data.files import first_of
from segmentation.data.geo import evaluation_options
from segmentation.data.samplers import RoundRobinBatchSampler
from segmentation.distributed import SINGLE_PROCESS, ProcessShare, evaluation_processes, open_trainer
from segmentation.environment import command_line, device_name, versions
from segmentation.errors import UserError
from segmentation.inference import Predictor
from segmentation.inference.ensemble import AVERAGED, open_models, open_predictor
from segmentation.inference.outputs import SaveMask, mask_writer
from segmentation.inference.tta import describe_tta, tta_views
from segmentation.library_warnings import library_warnings_hidden
from segmentation.metrics import (
    EvaluationMetrics,
    ObjectMetrics,
    ObjectRules,
    Temperature,
    constant_baseline,
    image_means,
    image_scores,
    ratios,
)
from segmentation.models import Decision
from segmentation.report.evaluation import Evaluation, ImageScores, refuse_used_folder, worst_first
from segmentation.report.gallery import ReadImage
from segmentation.report.html import write_comparison, write_evaluation
from segmentation.report.objects import ObjectTable
from segmentation.report.protocol import evaluation_protocol, refuse_different, split_notes
from segmentation.report.report import table
from segmentation.types import Batch, Classes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluationContext:
    """A checkpoint, or several as one model, and the data it is evaluated on; it is loaded when its turn comes."""

    paths: tuple[Path, ...]
    classes: Classes
    options: dict[str, Any]
    dataset: SegmentationDataset
    decision: Decision
    threshold_source: str
    split: str
    protocol: dict[str, Any]
    notes: tuple[str, ...]

    @property
    def samples(self) -> Samples:
        """The images of the split."""
        return self.dataset.splits()[self.split]

    @property
    def name(self) -> str:
        """The file or files."""
        return ", ".join(map(str, self.paths))

    @property
    def title(self) -> str:
        """RUN/best for RUN/checkpoints/best.ckpt; of several all of them."""
        return " + ".join(map(_title, self.paths))


def _title(path: Path) -> str:
    path = path.resolve()
    folder = path.parents[1] if path.parent.name == "checkpoints" else path.parent
    return f"{folder.name}/{path.stem}"


def open_context(given: Path | Sequence[Path], settings: EvaluationSettings) -> EvaluationContext:
    """The data that the options name, else those of the checkpoint's training, checked against the checkpoint.

    Several checkpoints are one model. Raises `UserError` for a checkpoint or data that cannot be used and for data of
    other classes.
    """
    paths = (given,) if isinstance(given, Path) else tuple(given)
    path = paths[0]
    if settings.write_threshold or settings.calibrate:
        checkpoint.read_own(path)  # refuses an exported model before its evaluation
    trained, models = open_models(paths, threshold=settings.threshold, ensemble=settings.ensemble)
    binary = trained.classes.binary
    if settings.write_threshold and not binary:
        raise UserError(f"{path} has several classes and no threshold: leave write_threshold out.")
    options = _dataset_options(path, settings.dataset, trained.dataset)
    chosen = any(settings.dataset.get(key) is not None for key in ("name", "images"))
    dataset = _open_dataset(path, trained, options, chosen=chosen)
    _check_classes(path, trained.classes, dataset.classes)
    protocol = evaluation_protocol(
        dataset,
        options,
        settings.split,
        size=trained.size,
        resize=trained.resize,
        tile=trained.tile,
        threshold=trained.decision.threshold,
        tta=describe_tta(tta_views(settings.tta)),
        checkpoints=paths,
    ) | {"threshold_source": trained.threshold_source if binary else None}
    protocol |= _temperature_entry(trained.decision)
    notes = (
        *dataset.notes,
        *([AVERAGED.format(count=len(paths))] if len(paths) > len(models) else []),
        *split_notes(settings.split, protocol["split_sha256"], trained.protocol),
        *(_threshold_notes(trained, settings) if binary else []),
    )
    return EvaluationContext(
        paths,
        trained.classes,
        options,
        dataset,
        trained.decision,
        trained.threshold_source,
        settings.split,
        protocol,
        notes,
    )


def _dataset_options(path: Path, typed: Mapping[str, Any], trained: Mapping[str, Any]) -> dict[str, Any]:
    unset = {"root", "images", "labels", "extent"}  # in conf/evaluate.yaml, unless they are typed
    options = {key: value for key, value in typed.items() if value is not None or key not in unset}
    if "name" in options:
        return options
    if "name" not in trained:
        raise UserError(
            f"{path} does not say which data it was trained on: give dataset=NAME dataset.root=PATH."
        )
    if "root" in options and "root" not in trained:
        raise UserError(
            f"dataset.root has no use: {path} was trained on dataset={trained['name']}, which has none."
        )
    if trained["name"] == "geotiff":
        return evaluation_options(trained, options)
    fetching = {"download": False} if "download" in trained else {}
    return {**trained, **fetching, **options}


def _open_dataset(
    path: Path, trained: checkpoint.Trained, dataset: dict[str, Any], *, chosen: bool
) -> SegmentationDataset:
    try:
        return open_dataset(trained.channels, trained.pixel_range, **dataset)
    except UserError as error:
        if chosen:
            raise
        raise UserError(
            f"{error} These are the data that {path} was trained on: if they lie elsewhere now, give dataset.root=PATH."
        ) from error


def _check_classes(path: Path, own: Classes, others: Classes) -> None:
    if own.binary != others.binary:
        kinds = {True: "binary", False: "of several classes"}
        raise UserError(
            f"{path} is {kinds[own.binary]}, the data are {kinds[others.binary]}: give its own kind of data."
        )
    if own.names == others.names:
        return
    missing = [name for name in own.names if name not in others.names]
    added = [name for name in others.names if name not in own.names]
    parts = [
        *([f"the data lack {first_of(missing, 8)}"] if missing else []),
        *([f"the checkpoint does not know {first_of(added, 8)}"] if added else []),
        *([] if missing or added else [f"they are in another order: {', '.join(others.names)}"]),
    ]
    raise UserError(
        f"{path} has {len(own)} classes, the data {len(others)}: {'; '.join(parts)}. Give data of the same classes."
    )


def _temperature_entry(decision: Decision) -> dict[str, float]:
    return {} if decision.temperature == 1 else {"temperature": decision.temperature}


def _threshold_notes(trained: checkpoint.Trained, settings: EvaluationSettings) -> list[str]:
    if settings.split == "val" and "val split" in trained.threshold_source:
        return ["The threshold was chosen on a val split: only scores on the test split say how good it is."]
    if settings.split == "test" and settings.threshold not in ("auto", "best"):
        return [
            f"threshold={settings.threshold} was given as an option: "
            "if it was chosen on this split, its scores here are too good."
        ]
    return []


def evaluate_split(
    predictor: Predictor,
    context: EvaluationContext,
    settings: EvaluationSettings,
    save: SaveMask | None,
    share: ProcessShare = SINGLE_PROCESS,
    table: ObjectTable | None = None,
) -> tuple[EvaluationMetrics, list[ImageScores]]:
    """The counts of the whole split, and the scores of each image in the split's order.

    Each image is scored at the size of its mask; its objects go to the `table`, if there is one. Memory holds one
    batch, the counts, and a few numbers per image.
    With several processes, each takes whole batches in turn. Scores computed from the counts cover all processes;
    the scores of single images are gathered on the first process, and the others get none.
    """
    metrics = EvaluationMetrics(
        len(context.classes),
        binary=context.classes.binary,
        uncalibrated=None if context.decision.temperature == 1 else context.decision.uncalibrated,
    ).to(predictor.device)
    images: list[ImageScores] = []
    batches = loader(predictor, context, settings, share)
    assert isinstance(batches.batch_sampler, RoundRobinBatchSampler)
    progress = tqdm(
        batches,
        desc=context.title,
        leave=False,
        disable=not (share.is_first and sys.stderr.isatty()),
    )
    for batch, draws in zip(progress, batches.batch_sampler, strict=True):
        for start, probabilities_BKHW, mask_BHW in _predicted(predictor, batch):
            labels_BHW = predictor.labels(probabilities_BKHW)
            counts_BKK = metrics.update(probabilities_BKHW, labels_BHW, mask_BHW)
            names = batch["name"][start : start + len(mask_BHW)]
            scored = _scored(names, draws[start].item, counts_BKK.cpu(), context.classes)
            if table is not None:
                pairs = zip(scored, mask_BHW.cpu().numpy(), labels_BHW.cpu().numpy(), strict=True)
                scored = [replace(one, objects=table.add(one.index, one.name, *pair)) for one, *pair in pairs]
            images += scored
            if save is not None:
                for name, labels_HW in zip(names, labels_BHW.cpu().numpy(), strict=True):
                    save(name, labels_HW)
    return metrics, sorted(share.gathered(images), key=attrgetter("index"))


def fitted_decision(
    predictor: Predictor,
    context: EvaluationContext,
    settings: EvaluationSettings,
    share: ProcessShare = SINGLE_PROCESS,
) -> Decision:
    """The checkpoint's decision at the temperature that suits the split, with the same labels.

    Raises `UserError` where no pixel of the split is labelled.
    """
    decision = context.decision
    fit = Temperature(independent=decision.independent).to(predictor.device)
    batches = loader(predictor, context, settings, share)
    shown = share.is_first and sys.stderr.isatty()
    for batch in tqdm(batches, desc="temperature", leave=False, disable=not shown):
        for _, probabilities_BKHW, mask_BHW in _predicted(predictor, batch):
            fit.update(decision.logits(probabilities_BKHW), mask_BHW)
    return decision.at_temperature(fit.compute())


def loader(
    predictor: Predictor,
    context: EvaluationContext,
    settings: EvaluationSettings,
    share: ProcessShare = SINGLE_PROCESS,
) -> Loader:
    """The split in order, as the model saw its validation images in training: the batches for this share."""
    trained = predictor.trained
    data = DataSettings(
        size=trained.size,
        resize=trained.resize,
        channels=trained.channels,
        batch_size=settings.batch_size,
        workers=settings.workers,
    )
    # The loader reads the test split: put the chosen one in its place.
    only = replace(context.dataset, test=context.samples)
    whole = SegmentationData(only, evaluation_transform(**data.input), data, seed=0)
    return whole.round_robin_dataloader(process=share.process, processes=share.processes)


def _predicted(predictor: Predictor, batch: Batch) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Consecutive images whose masks have one size, with the index of the first in the batch."""
    masks = [mask_HW.to(predictor.device) for mask_HW in batch["mask"]]
    start = 0
    for stop in range(1, len(masks) + 1):
        if stop < len(masks) and masks[stop].shape == masks[start].shape:
            continue
        height, width = masks[start].shape
        probabilities_BKHW = predictor.probabilities(batch["image"][start:stop], size=(height, width))
        yield start, probabilities_BKHW, torch.stack(masks[start:stop])
        start = stop


def _scored(names: list[str], first: int, counts_BKK: Tensor, classes: Classes) -> list[ImageScores]:
    iou_BK = ratios(counts_BKK)["iou"]
    rows = image_scores(counts_BKK, binary=classes.binary)
    return [
        ImageScores(name, first + offset, row, iou_K)
        for offset, (name, row, iou_K) in enumerate(zip(names, rows, iou_BK.numpy(), strict=True))
    ]


def image_with_prediction(predictor: Predictor, context: EvaluationContext) -> ReadImage:
    """Index -> the image as the data set gives it, its truth, and a fresh prediction at the truth's size."""
    transform = evaluation_transform(size=predictor.trained.size, resize=predictor.trained.resize)

    def one(index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        sample = context.samples[index]
        image_BCHW = torch.from_numpy(transform(sample, 0)["image"]).permute(2, 0, 1)[None]
        height, width = sample["mask"].shape
        labels_BHW = predictor.labels(predictor.probabilities(image_BCHW, size=(height, width)))
        return sample["image"], sample["mask"], labels_BHW[0].cpu().numpy()

    return one


def subfolder_name(number: int, title: str) -> str:
    """The folder of one of several checkpoints: its number, and its title in portable characters."""
    return f"{number}_{re.sub(r'[^A-Za-z0-9._-]+', '_', title)[:60]}"


@library_warnings_hidden()
def evaluate(settings: EvaluationSettings, folder: Path) -> float:
    """Evaluate the checkpoints and write the results to the folder; returns the mIoU of the first checkpoint.

    Several checkpoints get a sub-folder each, and a comparison beside these. With several processes, each evaluates
    a part; only the first writes, except for the masks. Raises `UserError` for mistakes in the options, the
    checkpoints or the data.
    """
    trainer = open_trainer(settings)
    if trainer.is_global_zero:
        refuse_used_folder(folder)
    asked: Sequence[Path | Sequence[Path]] = (
        [settings.checkpoints] if settings.ensemble else settings.checkpoints
    )
    contexts = [open_context(each, settings) for each in asked]
    refuse_different({context.name: context.protocol for context in contexts})
    names = [subfolder_name(number, context.title) for number, context in enumerate(contexts, 1)]
    folders = [folder] if len(contexts) == 1 else [folder / name for name in names]
    if trainer.is_global_zero:
        for own_folder in folders:
            refuse_used_folder(own_folder)
    with evaluation_processes(trainer) as share:
        evaluations = [
            _evaluate_and_write(context, settings, own_folder, str(trainer.strategy.root_device), share)
            for context, own_folder in zip(contexts, folders, strict=True)
        ]
    if len(contexts) > 1 and share.is_first:
        by_name, device = dict(zip(names, contexts, strict=True)), str(trainer.strategy.root_device)

        def open_reader(name: str) -> ReadImage:
            return image_with_prediction(_predictor(by_name[name], settings, device), by_name[name])

        write_comparison(folder, dict(zip(names, evaluations, strict=True)), open_reader)
        log.info("\nSide by side: %s", folder / "report.html")
    return evaluations[0].report["metrics"][f"{settings.split}/miou"]


def _predictor(context: EvaluationContext, settings: EvaluationSettings, device: str) -> Predictor:
    predictor = open_predictor(
        context.paths,
        ensemble=settings.ensemble,
        device=device,
        precision=settings.precision,
        tta=settings.tta,
        compile=settings.compile,
    )
    predictor.trained = replace(
        predictor.trained, decision=context.decision, threshold_source=context.threshold_source
    )
    return predictor


def _evaluate_and_write(
    context: EvaluationContext, settings: EvaluationSettings, folder: Path, device: str, share: ProcessShare
) -> Evaluation:
    folder.mkdir(parents=True, exist_ok=True)
    predictor = _predictor(context, settings, device)
    _announce(context, predictor)
    if settings.calibrate:
        decision = fitted_decision(predictor, context, settings, share)
        protocol = context.protocol | {"threshold": decision.threshold if decision.binary else None}
        protocol |= _temperature_entry(decision)
        context = replace(context, decision=decision, protocol=protocol)
        predictor = _predictor(context, settings, device)
    evaluation = _evaluate_one(context, settings, predictor, folder, share)
    if share.is_first:
        page = write_evaluation(folder, evaluation, image_with_prediction(predictor, context))
        log.info("\n%s\n\nThe report: %s", table(evaluation.report, splits=(context.split,)), page)
        if settings.calibrate:
            checkpoint.write_temperature(context.paths[0], context.decision)
            log.info(
                "The temperature %.4g, fitted on the val split, was written to %s",
                context.decision.temperature,
                context.name,
            )
        if settings.write_threshold:
            _write_threshold(context, evaluation.report["metrics"])
    return evaluation


def _write_threshold(context: EvaluationContext, metrics: Mapping[str, float]) -> None:
    threshold = metrics["val/best_threshold_f1"]
    if math.isnan(threshold):
        raise UserError("The val split has no foreground: no threshold is best, and none was written.")
    protocol = context.protocol
    checkpoint.write_threshold(
        context.paths[0],
        threshold,
        split_sha256=protocol["split_sha256"],
        tta=protocol["test_time_augmentation"],
    )
    log.info("The threshold %.6g, best on the val split, was written to %s", threshold, context.name)


def _evaluate_one(
    context: EvaluationContext,
    settings: EvaluationSettings,
    predictor: Predictor,
    folder: Path,
    share: ProcessShare,
) -> Evaluation:
    start = time.perf_counter()
    save = mask_writer(folder / "masks", context.classes) if settings.saves_masks else None
    rules = ObjectRules(watershed=settings.watershed, min_area=settings.min_area)
    counts = ObjectMetrics(context.classes, rules)
    areas = areas_of(context.samples)
    table = ObjectTable(folder, share.process, counts, areas) if settings.objects else None
    with table or nullcontext():
        metrics, images = evaluate_split(predictor, context, settings, save, share, table)
    objects = None
    if table:
        objects, images = table.join(share.gathered([table.part]), images)
    seconds = time.perf_counter() - start
    binary = context.classes.binary
    scores = metrics.scores() | image_means([dict(image.scores) for image in images], binary=binary)
    if objects:
        scores |= objects.scores()
    notes = [*context.notes, *(table.notes if table else ())]
    counts_KK = metrics.confusion.compute()
    report = {
        "metrics": {f"{context.split}/{name}": value for name, value in scores.items()},
        "per_class": metrics.per_class(context.classes.names),
        **({"objects": objects.report()} if objects else {}),
        "baseline": constant_baseline(counts_KK, context.classes.names, binary=binary),
        "protocol": context.protocol,
        "model": predictor.description,
        "data": {**context.protocol["dataset"], "images": len(images), "notes": notes},
        "environment": {
            "device": device_name(predictor.device),
            "accelerator": predictor.device.type,
            "processes": share.processes,
            "precision": predictor.precision,
            "compiled": settings.compile,  # which `seconds` holds, too
            "command": command_line(),
            **versions(),
        },
        "seconds": seconds,
    }
    return Evaluation(
        title=context.title,
        classes=context.classes,
        split=context.split,
        report=report,
        confusion=counts_KK.cpu().numpy(),
        curves=metrics.curves(),
        images=worst_first(images, binary=binary),
        objects=rules if objects else None,
    )


def _announce(context: EvaluationContext, predictor: Predictor) -> None:
    log.info(
        "%s on the %s split of %s: %d images, on %s",
        context.name,
        context.split,
        context.options["name"],
        len(context.samples),
        predictor.device,
    )
    for note in context.notes:
        log.info("note: %s", note)
