"""One pass over a split: counts of all its pixels, scores of each image, objects; and the temperature that suits it."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from operator import attrgetter

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from segmentation.config import DataSettings, EvaluationSettings
from segmentation.data.augmentation import evaluation_transform
from segmentation.data.datamodule import Loader, SegmentationData
from segmentation.data.samplers import RoundRobinBatchSampler
from segmentation.distributed import SINGLE_PROCESS, ProcessShare
from segmentation.evaluation.context import EvaluationContext
from segmentation.inference import Predictor
from segmentation.inference.outputs import SaveMask
from segmentation.metrics import (
    EvaluationMetrics,
    Temperature,
    image_scores,
    ratios,
)
from segmentation.models import Decision
from segmentation.report.evaluation import ImageScores
from segmentation.report.gallery import ReadImage
from segmentation.report.objects import ObjectTable
from segmentation.types import Batch, Classes


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
