"""An evaluation from config to report: `evaluate.py` calls this."""

import logging
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
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
from segmentation.data.dataset import Samples, SegmentationDataset
from segmentation.data.files import first_of
from segmentation.data.samplers import Turns
from segmentation.distributed import SINGLE_PROCESS, ProcessShare, evaluation_processes, open_trainer
from segmentation.environment import device_name, versions
from segmentation.errors import UserError
from segmentation.inference import Predictor
from segmentation.inference.outputs import save_mask
from segmentation.inference.tta import describe_tta, tta_views
from segmentation.library_warnings import library_warnings_hidden
from segmentation.metrics import EvaluationMetrics, image_means, image_scores, ratios
from segmentation.report.evaluation import Evaluation, ImageScores, worst_first
from segmentation.report.gallery import Look
from segmentation.report.html import refuse_different, write_comparison, write_evaluation
from segmentation.report.protocol import evaluation_protocol
from segmentation.report.report import table
from segmentation.types import Batch, Classes

# MERGED FROM evaluation/case: A checkpoint and the data that it is to be judged on.
# MERGED FROM evaluation/judge: One pass over a split: every image is predicted once, counted, and forgotten.
# MERGED FROM evaluation/folder: The folder of results: never one that holds others'.


@dataclass(frozen=True)
class EvaluationContext:
    """What is judged on what; the model itself is loaded when its turn comes."""

    path: Path
    classes: Classes
    dataset: dict[str, Any]
    source: SegmentationDataset
    split: str
    protocol: dict[str, Any]
    notes: tuple[str, ...]

    @property
    def samples(self) -> Samples:
        """The images of the split."""
        return self.source.splits()[self.split]

    @property
    def title(self) -> str:
        """RUN/best for RUN/checkpoints/best.ckpt."""
        path = self.path.resolve()
        folder = path.parents[1] if path.parent.name == "checkpoints" else path.parent
        return f"{folder.name}/{path.stem}"


def open_context(path: Path, settings: EvaluationSettings) -> EvaluationContext:
    """The data that the options name, else those of the checkpoint's training, held against the checkpoint.

    Raises `UserError` for a checkpoint or data that cannot be used and for data of other classes.
    """
    trained = checkpoint.load(path)
    dataset = _dataset(path, settings.dataset, trained.dataset)
    source = _open(path, trained.channels, dataset, chosen="name" in settings.dataset)
    _check_classes(path, trained.classes, source.classes)
    protocol = evaluation_protocol(
        source,
        dataset,
        settings.split,
        size=trained.size,
        resize=trained.resize,
        threshold=trained.decision.threshold,
        tta=describe_tta(tta_views(settings.tta)),
        checkpoint=path,
    )
    notes = (*source.notes, *_split_notes(settings.split, protocol["split_sha256"], trained.protocol))
    return EvaluationContext(path, trained.classes, dataset, source, settings.split, protocol, notes)


def _dataset(path: Path, typed: Mapping[str, Any], trained: Mapping[str, Any]) -> dict[str, Any]:
    options = {key: value for key, value in typed.items() if value is not None or key != "root"}
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
    fetching = {"download": False} if "download" in trained else {}
    return {**trained, **fetching, **options}


def _open(path: Path, channels: int, dataset: dict[str, Any], *, chosen: bool) -> SegmentationDataset:
    try:
        return open_dataset(channels, **dataset)
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
        *([] if missing or added else [f"their order is another: {', '.join(others.names)}"]),
    ]
    raise UserError(
        f"{path} has {len(own)} classes, the data {len(others)}: {'; '.join(parts)}. Give data of the same classes."
    )


def _split_notes(split: str, digest: str, trained: Mapping[str, Any]) -> list[str]:
    known = trained.get("split_sha256", {})
    if split == "train":
        return ["These are images of the train split: the scores say what was learnt, not what will be met."]
    if known.get(split) == digest:
        return []
    there = known.get(split, "unknown")
    return [
        f"The {split} split is not the one of the training (its hash is {digest}, there {there}): "
        "make sure that no image of the training is in it."
    ]


Save = Callable[[str, np.ndarray], None]
"""Takes an image's name and its predicted labels, uint8 (H, W)."""


def judge(
    predictor: Predictor,
    case: EvaluationContext,
    settings: EvaluationSettings,
    save: Save | None,
    place: ProcessShare = SINGLE_PROCESS,
) -> tuple[EvaluationMetrics, list[ImageScores]]:
    """The counts of the whole split, and the scores of each image in the split's order.

    Each image is judged at the size of its mask. Memory holds one batch, the counts, and a few numbers an image.
    Of several processes each sees whole batches in turn; what is computed from the counts is that of all, the
    scores of images come to the first, and the others have none.
    """
    judgement = EvaluationMetrics(len(case.classes), binary=case.classes.binary).to(predictor.device)
    images: list[ImageScores] = []
    batches = loader(predictor, case, settings, place)
    assert isinstance(batches.batch_sampler, Turns)
    progress = tqdm(
        batches,
        desc=case.title,
        leave=False,
        disable=not (place.is_first and sys.stderr.isatty()),
    )
    for batch, draws in zip(progress, batches.batch_sampler, strict=True):
        for start, probabilities_BKHW, mask_BHW in _predicted(predictor, batch):
            labels_BHW = predictor.labels(probabilities_BKHW)
            counts_BKK = judgement.update(probabilities_BKHW, labels_BHW, mask_BHW)
            names = batch["name"][start : start + len(mask_BHW)]
            images += _scored(names, draws[start].item, counts_BKK.cpu(), case.classes)
            if save is not None:
                for name, labels_HW in zip(names, labels_BHW.cpu().numpy(), strict=True):
                    save(name, labels_HW)
    return judgement, sorted(place.gathered(images), key=attrgetter("index"))


def loader(
    predictor: Predictor,
    case: EvaluationContext,
    settings: EvaluationSettings,
    place: ProcessShare = SINGLE_PROCESS,
) -> Loader:
    """The split in order, as the model saw its validation images in training: the batches for this place."""
    trained = predictor.trained
    data = DataSettings(
        size=trained.size,
        resize=trained.resize,
        channels=trained.channels,
        batch_size=settings.batch_size,
        workers=settings.workers,
    )
    only = replace(case.source, test=case.samples)
    whole = SegmentationData(only, evaluation_transform(**data.input), data, seed=0)
    return whole.turns_dataloader(process=place.process, processes=place.processes)


def _predicted(predictor: Predictor, batch: Batch) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Runs of images whose masks are of one size, with the place of the first in the batch."""
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
        ImageScores(name, first + place, row, iou_K)
        for place, (name, row, iou_K) in enumerate(zip(names, rows, iou_BK.numpy(), strict=True))
    ]


def look(predictor: Predictor, case: EvaluationContext) -> Look:
    """Index -> the image as the data set gives it, its truth, and a fresh prediction at the truth's size."""
    transform = evaluation_transform(size=predictor.trained.size, resize=predictor.trained.resize)

    def one(index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        sample = case.samples[index]
        image_BCHW = torch.from_numpy(transform(sample, 0)["image"]).permute(2, 0, 1)[None]
        height, width = sample["mask"].shape
        labels_BHW = predictor.labels(predictor.probabilities(image_BCHW, size=(height, width)))
        return sample["image"], sample["mask"], labels_BHW[0].cpu().numpy()

    return one


_OURS = (
    *(f"report.{ending}" for ending in ("json", "md", "html")),
    *("per_image.csv", "confusion.csv", "confusion.png"),
    *(f"{curve}.{ending}" for curve in ("roc", "pr", "reliability") for ending in ("csv", "png")),
    *("masks", "checkpoints"),
)


def refuse_used(folder: Path) -> None:
    """Raises `UserError` where results would be written over others, those of a training run among them."""
    for name in _OURS:
        if (folder / name).exists():
            raise UserError(f"{folder} already holds {name}: give another output=FOLDER.")


def subfolder(number: int, title: str) -> str:
    """The folder of one of several checkpoints: its number, and as much of its title as every system can name."""
    return f"{number}_{re.sub(r'[^A-Za-z0-9._-]+', '_', title)[:60]}"


def mask_writer(folder: Path, classes: Classes) -> Save:
    """Saves predicted labels in `folder` under the name of their image.

    What it returns raises `UserError` for a name that was there before, such as `a` and `A` where the file
    system holds them for one.
    """

    def save(name: str, labels_HW: np.ndarray) -> None:
        path = folder / f"{name}.png"
        if path.exists():
            raise UserError(f"{path} is there already: two images of the split share its name. Rename one.")
        save_mask(path, labels_HW, classes)

    return save


log = logging.getLogger(__name__)


@library_warnings_hidden()
def evaluate(settings: EvaluationSettings, folder: Path) -> float:
    """Judges the checkpoints and fills the folder; the result is the first one's mIoU.

    Several checkpoints get a folder each inside it, and a comparison beside these. Of several processes each
    judges a part, and the first alone writes, but for the masks. Raises `UserError` for whatever in the options,
    the checkpoints or the data the user can mend.
    """
    trainer = open_trainer(settings)
    if trainer.is_global_zero:
        refuse_used(folder)
    cases = [open_context(path, settings) for path in settings.checkpoints]
    refuse_different({str(case.path): case.protocol for case in cases})
    names = [subfolder(number, case.title) for number, case in enumerate(cases, 1)]
    folders = [folder] if len(cases) == 1 else [folder / name for name in names]
    if trainer.is_global_zero:
        for own in folders:
            refuse_used(own)
    with evaluation_processes(trainer) as place:
        evaluations = [
            _single(case, settings, own, str(trainer.strategy.root_device), place)
            for case, own in zip(cases, folders, strict=True)
        ]
    if len(cases) > 1 and place.is_first:
        write_comparison(folder, dict(zip(names, evaluations, strict=True)))
        log.info("\nSide by side: %s", folder / "report.html")
    return evaluations[0].report["metrics"][f"{settings.split}/miou"]


def _single(
    case: EvaluationContext, settings: EvaluationSettings, folder: Path, device: str, place: ProcessShare
) -> Evaluation:
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
    case: EvaluationContext,
    settings: EvaluationSettings,
    predictor: Predictor,
    folder: Path,
    place: ProcessShare,
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
            "device": device_name(predictor.device),
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


def _announce(case: EvaluationContext, predictor: Predictor) -> None:
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
