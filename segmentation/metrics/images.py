"""Scores of single images: other numbers than the data set's, under names of their own."""

import math
from collections.abc import Sequence
from statistics import fmean, median

import torch
from torch import Tensor

from segmentation.metrics.scores import Scores, scores

_NAMES = ("miou", "dice", "pixel_accuracy")
_BINARY_NAMES = (*_NAMES, "iou")


def image_counts(labels_BHW: Tensor, mask_BHW: Tensor, num_classes: int) -> Tensor:
    """Each image's confusion matrix, int64 (B, K, K): rows truth, columns prediction, truth 255 left out."""
    truth_BHW = mask_BHW.clamp_max(num_classes).to(torch.int32)  # ignore gets a row of its own, cut off below
    cells_BHW = truth_BHW * num_classes + labels_BHW
    size, images = num_classes * (num_classes + 1), len(mask_BHW)
    cells_BHW += torch.arange(0, size * images, size, device=cells_BHW.device).to(cells_BHW).view(-1, 1, 1)
    counts = torch.bincount(cells_BHW.flatten(), minlength=size * images)
    return counts.view(images, num_classes + 1, num_classes)[:, :-1]


def image_scores(counts_BKK: Tensor, *, binary: bool) -> list[Scores]:
    """`miou`, `dice` and `pixel_accuracy` (binary: `iou` as well) of each image, as `scores` defines them."""
    names = _BINARY_NAMES if binary else _NAMES
    rows = (scores(counts_KK, binary=binary) for counts_KK in counts_BKK)
    return [{name: row[name] for name in names} for row in rows]


def image_means(rows: Sequence[Scores], *, binary: bool) -> Scores:
    """`image_miou_mean`, `image_miou_median` and so on over images; those where a score is nan are left out."""
    means = {}
    for name in _BINARY_NAMES if binary else _NAMES:
        values = [row[name] for row in rows if not math.isnan(row[name])]
        means[f"image_{name}_mean"] = fmean(values) if values else math.nan
        means[f"image_{name}_median"] = median(values) if values else math.nan
    return means
