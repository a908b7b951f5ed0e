"""An evaluation from config to report: `evaluate.py` calls this."""

import logging
import time
from pathlib import Path

from segmentation import checkpoint
from segmentation.environment import device_name, versions
from segmentation.evaluation.case import Case, open_case
from segmentation.evaluation.folder import mask_writer, refuse_used, subfolder
from segmentation.evaluation.judge import judge, look
from segmentation.evaluation.place import Place, among, open_trainer
from segmentation.evaluation.settings import EvaluationSettings
from segmentation.inference import Predictor
from segmentation.metrics import image_means
from segmentation.quiet import hushed
from segmentation.report.comparison import refuse_different, write_comparison
from segmentation.report.evaluation import Evaluation, worst_first
from segmentation.report.files import write_evaluation
from segmentation.report.text import table

log = logging.getLogger(__name__)


@hushed()
def evaluate(settings: EvaluationSettings, folder: Path) -> float:
    """Judges the checkpoints and fills the folder; the result is the first one's mIoU.

    Several checkpoints get a folder each inside it, and a comparison beside these. Of several processes each
    judges a part, and the first alone writes, but for the masks. Raises `UserError` for whatever in the options,
    the checkpoints or the data the user can mend.
    """
    trainer = open_trainer(settings)
    if trainer.is_global_zero:
        refuse_used(folder)
    cases = [open_case(path, settings) for path in settings.checkpoints]
    refuse_different({str(case.path): case.protocol for case in cases})
    names = [subfolder(number, case.title) for number, case in enumerate(cases, 1)]
    folders = [folder] if len(cases) == 1 else [folder / name for name in names]
    if trainer.is_global_zero:
        for own in folders:
            refuse_used(own)
    with among(trainer) as place:
        evaluations = [
            _single(case, settings, own, str(trainer.strategy.root_device), place)
            for case, own in zip(cases, folders, strict=True)
        ]
    if len(cases) > 1 and place.is_first:
        write_comparison(folder, dict(zip(names, evaluations, strict=True)))
        log.info("\nSide by side: %s", folder / "report.html")
    return evaluations[0].report["metrics"][f"{settings.split}/miou"]


def _single(case: Case, settings: EvaluationSettings, folder: Path, device: str, place: Place) -> Evaluation:
    folder.mkdir(parents=True, exist_ok=True)
    trained = checkpoint.load(case.path)
    predictor = Predictor(
        trained, device=device, precision=settings.precision, tta=settings.tta, compile=settings.compile
    )
    _announce(case, predictor)
    evaluation = _judged(case, settings, predictor, folder, place)
    if place.is_first:
        page = write_evaluation(folder, evaluation, look(predictor, case))
        metrics, per_class = evaluation.report["metrics"], evaluation.report["per_class"]
        log.info("\n%s\n\nThe report: %s", table(metrics, per_class, splits=(case.split,)), page)
    return evaluation


def _judged(
    case: Case, settings: EvaluationSettings, predictor: Predictor, folder: Path, place: Place
) -> Evaluation:
    start = time.perf_counter()
    save = mask_writer(folder / "masks", case.classes) if "masks" in settings.save else None
    judgement, images = judge(predictor, case, settings, save, place)
    seconds = time.perf_counter() - start
    binary = case.classes.binary
    scores = judgement.scores() | image_means([dict(image.scores) for image in images], binary=binary)
    model = predictor.trained.model
    report = {
        "metrics": {f"{case.split}/{name}": value for name, value in scores.items()},
        "per_class": judgement.per_class(case.classes.names),
        "protocol": case.protocol,
        "model": {**model.description, "parameters": sum(weights.numel() for weights in model.parameters())},
        "data": {**case.protocol["dataset"], "images": len(images), "notes": list(case.notes)},
        "environment": {
            "device": device_name(),
            "accelerator": predictor.device.type,
            "processes": place.processes,
            "precision": predictor.precision,
            "compiled": settings.compile,  # which `seconds` holds, too
            **versions(),
        },
        "seconds": seconds,
    }
    return Evaluation(
        title=case.title,
        classes=case.classes,
        split=case.split,
        report=report,
        confusion=judgement.confusion.compute().cpu().numpy(),
        curves=judgement.curves(),
        images=worst_first(images, binary=binary),
    )


def _announce(case: Case, predictor: Predictor) -> None:
    log.info(
        "%s on the %s split of %s: %d images, on %s",
        case.path,
        case.split,
        case.dataset["name"],
        len(case.samples),
        predictor.device,
    )
    for note in case.notes:
        log.info("note: %s", note)
