"""An evaluation from options to report: folders of results, checkpoints side by side, what is written back."""

import logging
import math
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from segmentation import checkpoint
from segmentation.config import EvaluationSettings
from segmentation.data.dataset import areas_of
from segmentation.distributed import ProcessShare, evaluation_processes, open_trainer
from segmentation.environment import command_line, device_name, versions
from segmentation.errors import UserError
from segmentation.evaluation.context import EvaluationContext, open_context, temperature_entry
from segmentation.evaluation.split import evaluate_split, fitted_decision, image_with_prediction
from segmentation.inference import Predictor
from segmentation.inference.ensemble import open_predictor
from segmentation.inference.outputs import mask_writer
from segmentation.library_warnings import library_warnings_hidden
from segmentation.metrics import (
    ObjectMetrics,
    ObjectRules,
    constant_baseline,
    image_means,
)
from segmentation.reading import file_hash
from segmentation.report.evaluation import Evaluation, refuse_used_folder, worst_first
from segmentation.report.gallery import ReadImage
from segmentation.report.html import write_comparison, write_evaluation
from segmentation.report.objects import ObjectTable
from segmentation.report.protocol import refuse_different
from segmentation.report.report import table

log = logging.getLogger(__name__)


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
        protocol |= temperature_entry(decision)
        context = replace(context, decision=decision, protocol=protocol)
        predictor = _predictor(context, settings, device)
    evaluation = _evaluate_one(context, settings, predictor, folder, share)
    if share.is_first:
        if settings.calibrate:
            checkpoint.write_temperature(context.paths[0], context.decision)
            evaluation.report["protocol"]["checkpoint_sha256"] = file_hash(context.paths[0])  # as it is now
        page = write_evaluation(folder, evaluation, image_with_prediction(predictor, context))
        log.info("\n%s\n\nThe report: %s", table(evaluation.report, splits=(context.split,)), page)
        if settings.calibrate:
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
