"""One pass over a split: every image is predicted once, counted, and forgotten."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from operator import attrgetter

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from segmentation.classes import Classes
from segmentation.data.augmentation import evaluation_transform
from segmentation.data.datamodule import Loader, SegmentationData
from segmentation.data.sampler import Turns
from segmentation.evaluation.case import Case
from segmentation.evaluation.place import ALONE, Place
from segmentation.evaluation.settings import EvaluationSettings
from segmentation.inference import Predictor
from segmentation.metrics import Judgement, image_scores, ratios
from segmentation.report.evaluation import ImageScores
from segmentation.report.gallery import Look
from segmentation.sample import Batch
from segmentation.settings import DataSettings

Save = Callable[[str, np.ndarray], None]
"""Takes an image's name and its predicted labels, uint8 (H, W)."""


def judge(
    predictor: Predictor, case: Case, settings: EvaluationSettings, save: Save | None, place: Place = ALONE
) -> tuple[Judgement, list[ImageScores]]:
    """The counts of the whole split, and the scores of each image in the split's order.

    Each image is judged at the size of its mask. Memory holds one batch, the counts, and a few numbers an image.
    Of several processes each sees whole batches in turn; what is computed from the counts is that of all, the
    scores of images come to the first, and the others have none.
    """
    judgement = Judgement(len(case.classes), binary=case.classes.binary).to(predictor.device)
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


def loader(predictor: Predictor, case: Case, settings: EvaluationSettings, place: Place = ALONE) -> Loader:
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


def look(predictor: Predictor, case: Case) -> Look:
    """Index -> the image as the data set gives it, its truth, and a fresh prediction at the truth's size."""
    transform = evaluation_transform(size=predictor.trained.size, resize=predictor.trained.resize)

    def one(index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        sample = case.samples[index]
        image_BCHW = torch.from_numpy(transform(sample, 0)["image"]).permute(2, 0, 1)[None]
        height, width = sample["mask"].shape
        labels_BHW = predictor.labels(predictor.probabilities(image_BCHW, size=(height, width)))
        return sample["image"], sample["mask"], labels_BHW[0].cpu().numpy()

    return one
