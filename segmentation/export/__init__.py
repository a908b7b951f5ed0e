"""From a checkpoint to a file for elsewhere, and its certificate: `export.py` calls `export`."""

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np

from segmentation import checkpoint, hub
from segmentation.checkpoint import Trained
from segmentation.config import EvaluationSettings, ExportSettings
from segmentation.data.layouts.auto import known_below, recognise
from segmentation.errors import UserError
from segmentation.evaluation import EvaluationContext, evaluate_split, open_context
from segmentation.export import for_torch
from segmentation.export.card import write_hub_folder
from segmentation.export.certificate import BOUNDS, Answers, OnnxFile, as_text, certify, faults, fitted
from segmentation.export.graph import export_network, whole_graph
from segmentation.export.precision import Pictures, Quantisation, halved, kept_layers, layers
from segmentation.export.qgis import QgisFile, qgis_graph, tile_side
from segmentation.inference import Predictor
from segmentation.inference.ensemble import AVERAGED, averaged
from segmentation.inference.inputs import find_inputs, pixels_for
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
    with _source(settings) as source:
        return (
            _push(settings, settings.push, source) if settings.push is not None else _export(settings, source)
        )


@contextmanager
def _source(settings: ExportSettings) -> Iterator[Path]:
    """The checkpoint; of several, for the block, a file of the mean of their weights."""
    paths = settings.checkpoints
    if len(paths) == 1:
        yield paths[0]
        return
    average = averaged({path: checkpoint.load(path) for path in paths})
    with TemporaryDirectory() as folder:
        file = Path(folder) / "average.safetensors"
        about = {
            **checkpoint.read(paths[0])["segmentation"],
            "threshold": average.decision.threshold,
            "threshold_source": average.threshold_source,
            "temperature": average.decision.temperature,
            "protocol": average.protocol,
            "training": average.training,
        }
        file.write_bytes(hub.described(average.model.state_dict(), about))
        log.info("%s", AVERAGED.format(count=len(paths)))
        yield file


def _export(settings: ExportSettings, source: Path) -> float:
    target = settings.target
    failed = target.with_suffix(f".failed{target.suffix}")
    proof = target.with_suffix(".json")
    refuse_links((target, failed, proof))
    _refuse_existing(settings, target, proof)
    checkpoint.read(source)  # refuses what is exported already
    trained = checkpoint.load(source)
    context = _context(settings, source)
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(failed, "wb") as file:  # opened first: whether it can be written is known before the work
        made = _made(source, trained, settings)
        file.write(made.content)
    side = tile_side(trained)
    agreement = certify(
        failed,
        answers := _opened(failed, trained, settings),
        trained,
        BOUNDS[settings.precision],
        made.pictures,
        sizes=[(side, side)] if settings.format == "qgis" else None,
        small=settings.precision == "fp32",
    )
    certificate = {
        "checkpoint": ", ".join(map(str, settings.checkpoints)),
        "format": settings.format,
        **agreement,
        **made.about,
        **(_verified(context, settings, trained, _in_place(failed, answers, trained)) if context else {}),
    }
    passed = _judged(certificate)
    for left in (target, proof):
        left.unlink(missing_ok=True)
    kept = failed.replace(target) if passed else failed
    write_json(proof, {"path": kept.name, **certificate})
    log.info("%s\n%s: the certificate is %s", as_text(certificate), kept, proof)
    if not passed:
        sys.exit(_FAILED)
    return _largest(certificate)


def _push(settings: ExportSettings, name: str, source: Path) -> float:
    folder = settings.hub_folder
    weights, proof = folder / hub.WEIGHTS, folder / hub.CERTIFICATE
    _refuse_existing(settings, *(folder / name for name in hub.FILES))
    trained = checkpoint.load(source)
    context = _context(settings, source)
    refuse_links((proof,))
    write_hub_folder(folder, source, trained, name=name, licence=settings.licence)
    agreement = certify(weights, for_torch.StateDictFile(weights), trained, BOUNDS["fp32"])
    agreement["environment"].pop("command")  # with places of this machine
    certificate = {
        "path": weights.name,
        **agreement,
        **(_verified(context, settings, trained, checkpoint.load(weights)) if context else {}),
    }
    passed = _judged(certificate)
    write_json(proof, certificate)
    log.info("%s\n%s: weights, description, card and certificate", as_text(certificate), folder)
    if not passed:
        log.error("It was not uploaded.")
        sys.exit(_FAILED)
    log.info("%s", hub.upload(folder, name, private=settings.private))
    return _largest(certificate)


def _refuse_existing(settings: ExportSettings, *files: Path) -> None:
    there = next(filter(Path.exists, files), None)
    if there is not None and settings.existing == "refuse":
        raise UserError(f"{there} exists already: give another output, or existing=overwrite.")


def _judged(certificate: dict[str, Any]) -> bool:
    """Whether it is within its bounds, which is written into it."""
    certificate["faults"] = list(faults(certificate))
    certificate["passed"] = not certificate["faults"]
    return bool(certificate["passed"])


def _largest(certificate: Mapping[str, Any]) -> float:
    return max(row["largest_difference"] for row in certificate["agreement"])


@dataclass(frozen=True)
class _Made:
    """A file's content, what its certificate adds, and the pictures by which it is judged; none: made ones."""

    content: bytes
    about: dict[str, Any] = field(default_factory=dict)
    pictures: list[np.ndarray] = field(default_factory=list)


def _made(source: Path, trained: Trained, settings: ExportSettings) -> _Made:
    match settings.format:
        case "torch_export":
            return _Made(for_torch.program(source, trained, settings))
        case "state_dict":
            return _Made(for_torch.state_dict(source, trained, settings))
        case "torchvision":
            return _Made(for_torch.torchvision_weights(trained), {"use": for_torch.torchvision_use(trained)})
    return _graph(source, trained, settings)


def _opened(file: Path, trained: Trained, settings: ExportSettings) -> Answers:
    """The file as a stranger uses it."""
    match settings.format:
        case "torch_export":
            return for_torch.ProgramFile(file, settings)
        case "state_dict":
            return for_torch.StateDictFile(file)
        case "torchvision":
            return for_torch.TorchvisionFile(file, trained)
        case "qgis":
            return QgisFile(file, trained)
    return OnnxFile(file, settings)


def _in_place(file: Path, answers: Answers, trained: Trained) -> Trained:
    """The file in place of its checkpoint."""
    if isinstance(answers, for_torch.ProgramFile | for_torch.TorchvisionFile):
        return answers.in_place_of(trained)
    return checkpoint.load(file)


def _graph(source: Path, trained: Trained, settings: ExportSettings) -> _Made:
    calibrating, judging = (
        _pictures(source, trained, settings).split() if settings.calibration else (None, [])
    )
    network = export_network(trained)
    found: dict[str, Any] = {"precision": settings.precision}
    if settings.precision != "fp32":
        kept = kept_layers(network, trained, settings.kept)
        found["kept_in_float"] = sorted(kept)
    if settings.precision == "fp16":
        network = halved(network, kept)
    elif calibrating is not None:
        quantisation = Quantisation(network, (_seen(one, trained) for one in calibrating))
        chosen = [layer for layer in layers(network) if layer not in kept]
        found["damage"] = quantisation.damage(chosen, [_seen(one, trained) for one in judging], trained)
        network = quantisation.apply(chosen)
    whole = qgis_graph if settings.format == "qgis" else whole_graph
    content = whole(network, source, trained, settings)
    if content.ByteSize() > _LARGEST:
        raise UserError(f"{source} is too large for one ONNX file of 2 GB: take a smaller backbone.")
    return _Made(content.SerializeToString(), found, judging)


def _pictures(source: Path, trained: Trained, settings: ExportSettings) -> Pictures:
    """The training images of the data set `calibration`, or where it has no layout the pictures in the folder."""
    folder = Path(str(settings.calibration)).expanduser()
    if not folder.is_dir():
        raise UserError(f"There is no folder calibration={folder}: give pictures, or the root of a data set.")
    try:
        samples = open_context(source, _evaluation(settings, str(folder), "train")).samples
    except UserError as error:
        if _has_layout(folder):  # masks would be pictures
            raise UserError(
                f"calibration={folder} cannot be read as the data set that it is ({error}): correct it, or give a"
                " folder that holds pictures alone."
            ) from error
        try:
            found, _ = find_inputs(str(folder), folder / "none")
        except UserError:
            raise UserError(f"calibration={folder} has no pictures and is no data set: {error}") from error
        files = [file for file in found if not file.is_video]
        return Pictures(lambda index: pixels_for(trained, files[index].path), len(files))
    return Pictures(lambda index: samples[index]["image"], len(samples))


def _has_layout(folder: Path) -> bool:
    try:
        recognise(folder)
    except UserError as error:
        return error.kind != "layout" or known_below(folder) is not None
    return True


def _seen(picture_HWC: np.ndarray, trained: Trained) -> np.ndarray:
    """The picture as the network gets it: float32 (1, C, H, W)."""
    height, width = picture_HWC.shape[:2]
    tile = trained.tile or max(height, width)
    size = trained.size if trained.resize else (min(height, tile), min(width, tile))
    pixels_CHW = fitted(picture_HWC, size, resize=trained.resize).transpose(2, 0, 1)
    return np.ascontiguousarray(pixels_CHW[None], np.float32)


def _context(settings: ExportSettings, source: Path) -> EvaluationContext | None:
    """The data set by which the file is verified, if one is given."""
    if settings.verify is None:
        return None
    return open_context(source, _evaluation(settings, settings.verify, settings.split))


def _evaluation(
    settings: ExportSettings, root: str, split: Literal["train", "val", "test"]
) -> EvaluationSettings:
    """An evaluation on the images of a data set, in float32 on the processor."""
    return EvaluationSettings(
        checkpoint=str(settings.file),
        dataset={"root": root},
        split=split,
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
    context: EvaluationContext, settings: ExportSettings, trained: Trained, file: Trained
) -> dict[str, Any]:
    """The scores of the checkpoint and of the file on the same images, as `verify` of a certificate."""
    result: dict[str, Any] = {"images": len(context.samples), "split": settings.split}
    how = _evaluation(settings, str(settings.verify), settings.split)
    for name, one in {"checkpoint": trained, "file": file}.items():
        predictor = Predictor(one, device="cpu", precision="32-true")
        metrics, _ = evaluate_split(predictor, context, how, None)
        classes = metrics.per_class(context.classes.names)
        result[name] = {
            "miou": metrics.scores()["miou"],
            "iou": {label: scores["iou"] for label, scores in classes.items()},
        }
    return {"verify": result}
