"""Scores of single images: other numbers than the data set's, under names of their own."""

import math
from collections.abc import Sequence
from statistics import fmean, median

from torch import Tensor

from segmentation.metrics.scores import Scores, columns

_NAMES = ("miou", "dice", "pixel_accuracy")
_BINARY_NAMES = (*_NAMES, "iou")


def image_scores(counts_BKK: Tensor, *, binary: bool) -> list[Scores]:
    """`miou`, `dice` and `pixel_accuracy` (binary: `iou` as well) of each image, as `scores` defines them."""
    names = _BINARY_NAMES if binary else _NAMES
    table = columns(counts_BKK, binary=binary)
    values = zip(*(table[name].tolist() for name in names), strict=True)
    return [dict(zip(names, row, strict=True)) for row in values]


def image_means(rows: Sequence[Scores], *, binary: bool) -> Scores:
    """`image_miou_mean`, `image_miou_median` and so on over images; those where a score is nan are left out."""
    means = {}
    for name in _BINARY_NAMES if binary else _NAMES:
        values = [row[name] for row in rows if not math.isnan(row[name])]
        means[f"image_{name}_mean"] = fmean(values) if values else math.nan
        means[f"image_{name}_median"] = median(values) if values else math.nan
    return means
