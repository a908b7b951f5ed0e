"""From a checkpoint to a file for elsewhere, and its certificate: `export.py` calls `export`."""

import logging
import sys
from pathlib import Path
from typing import Any

from segmentation import checkpoint, hub
from segmentation.checkpoint import Trained
from segmentation.config import EvaluationSettings, ExportSettings
from segmentation.errors import UserError
from segmentation.evaluation import EvaluationContext, evaluate_split, open_context
from segmentation.export.card import write_hub_folder
from segmentation.export.certificate import as_text, certify
from segmentation.export.graph import export_graph
from segmentation.inference import Predictor
from segmentation.library_warnings import library_warnings_hidden
from segmentation.writing import refuse_links, replacing, write_json

log = logging.getLogger(__name__)

_LARGEST = 2**31 - 1  # bytes of a protobuf
_FAILED = 1


@library_warnings_hidden()
def export(settings: ExportSettings) -> float:
    """Writes the file and, beside it, its certificate as JSON; returns the largest difference of a probability.

    A file outside its bounds is named `NAME.failed.onnx`, and the process exits with status 1. Raises `UserError` for
    wrong options, a checkpoint that cannot be used or exported, and files that exist.
    """
    if settings.push is not None:
        return _push(settings, settings.push)
    source, target = settings.file, settings.target
    failed = target.with_suffix(f".failed{target.suffix}")
    proof = target.with_suffix(".json")
    refuse_links((target, failed, proof))
    if settings.existing == "refuse" and (there := next(filter(Path.exists, (target, proof)), None)):
        raise UserError(f"{there} exists already: give another output, or existing=overwrite.")
    checkpoint.read(source)  # refuses what is exported already
    trained = checkpoint.load(source)
    context = open_context(source, _evaluation(settings)) if settings.verify else None
    content = export_graph(source, trained, settings)
    if content.ByteSize() > _LARGEST:
        raise UserError(f"{source} is too large for one ONNX file of 2 GB: take a smaller backbone.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(failed, "wb") as file:
        file.write(content.SerializeToString())
    certificate = {"checkpoint": str(source)} | certify(failed, trained, settings)
    if context:
        certificate["verify"] = _verified(context, settings, trained, failed)
    for left in (target, proof):
        left.unlink(missing_ok=True)
    kept = failed.replace(target) if certificate["passed"] else failed
    write_json(proof, {"path": kept.name, **certificate})
    log.info("%s\n%s: the certificate is %s", as_text(certificate), kept, proof)
    if not certificate["passed"]:
        sys.exit(_FAILED)
    return max(row["largest_difference"] for row in certificate["agreement"])


def _push(settings: ExportSettings, name: str) -> float:
    source, folder = settings.file, settings.hub_folder
    weights = folder / hub.WEIGHTS
    if settings.existing == "refuse" and weights.exists():
        raise UserError(f"{weights} exists already: give another output, or existing=overwrite.")
    trained = checkpoint.load(source)
    write_hub_folder(folder, source, trained, name=name, licence=settings.licence)
    written = checkpoint.load(weights).model.state_dict()
    difference = max(
        float((written[key].double() - value.double()).abs().max())
        for key, value in trained.model.state_dict().items()
    )
    log.info("%s: weights, description and card", folder)
    log.info("%s", hub.upload(folder, name, private=settings.private))
    return difference


def _evaluation(settings: ExportSettings) -> EvaluationSettings:
    """An evaluation on the images of `verify`, in float32 on the processor."""
    return EvaluationSettings(
        checkpoint=settings.checkpoint,
        dataset={"root": settings.verify},
        split=settings.split,
        tta="none",
        threshold="auto",
        write_threshold=False,
        save=[],
        batch_size=1,
        workers="auto",
        precision="32-true",
        trainer={},
        accelerator="cpu",
        compile=False,
        output="",
    )


def _verified(
    context: EvaluationContext, settings: ExportSettings, trained: Trained, file: Path
) -> dict[str, Any]:
    """The scores of the checkpoint and of the file on the same images."""
    result: dict[str, Any] = {"images": len(context.samples), "split": settings.split}
    for name, one in {"checkpoint": trained, "file": checkpoint.load(file)}.items():
        predictor = Predictor(one, device="cpu", precision="32-true")
        metrics, _ = evaluate_split(predictor, context, _evaluation(settings), None)
        classes = metrics.per_class(context.classes.names)
        result[name] = {
            "miou": metrics.scores()["miou"],
            "iou": {label: scores["iou"] for label, scores in classes.items()},
        }
    return result
