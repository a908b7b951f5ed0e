"""Confusion matrices, and the scores derived from them: for a data set, per class and per image.

Counts are summed over the whole split first and scores are derived once, so that they are exact for any batches.
Ignored pixels (255) are dropped in `image_counts`, for the boundary in `boundary.py`.
"""

import math
from collections.abc import Sequence
from statistics import fmean, median
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

Scores = dict[str, float]


def scores(counts_KK: Tensor, *, binary: bool) -> Scores:
    """The scores of a confusion matrix (rows truth, columns prediction), each 0..1, nan where undefined.

    A ratio is undefined where its denominator is zero: the IoU and Dice of a class in neither truth nor
    prediction, the precision of a class never predicted, the recall of one without a pixel. Means over
    classes leave out what is undefined, as scikit-learn does with `zero_division=nan`:

    - `miou`: mean IoU, over `classes_counted` of the K classes
    - `pixel_accuracy`: share of correct pixels; `mean_accuracy`: mean over classes of the share of their pixels
    - `fw_iou`: IoU weighted by each class's share of the pixels
    - `dice` and `f1` (the same for labels), `precision`, `recall`: means over classes; for binary data of the
      foreground, class 1, with its `iou` and `specificity`, the share of background predicted as background
    """
    return {name: float(value) for name, value in columns(counts_KK, binary=binary).items()}


def columns(counts_KK: Tensor, *, binary: bool) -> dict[str, Tensor]:
    """Name -> `scores` of one confusion matrix or of many, (..., K, K): float64 (...), on the CPU."""
    counts_KK = counts_KK.double().cpu()
    by_class = ratios(counts_KK)
    iou_K, pixels_K = by_class["iou"], counts_KK.sum(-1)
    pixels = pixels_K.sum(-1)
    values = {
        "miou": iou_K.nanmean(-1),
        "pixel_accuracy": _correct(counts_KK).sum(-1) / pixels,
        "mean_accuracy": by_class["recall"].nanmean(-1),
        "fw_iou": (iou_K * pixels_K).nansum(-1) / pixels,
    }
    if binary:
        values |= {name: ratio_K[..., 1] for name, ratio_K in by_class.items()}
        values["specificity"] = by_class["recall"][..., 0]
    else:
        values |= {name: ratio_K.nanmean(-1) for name, ratio_K in by_class.items() if name != "iou"}
    values["f1"] = values["dice"]
    values["classes_counted"] = (~iou_K.isnan()).sum(-1).double()
    return values


def per_class(counts_KK: Tensor, names: Sequence[str]) -> dict[str, Scores]:
    """`iou`, `dice`, `precision` and `recall` of each class, 0..1 or nan, and its true `pixels`."""
    counts_KK = counts_KK.double().cpu()
    table = ratios(counts_KK) | {"pixels": counts_KK.sum(1)}
    return {
        name: {column: float(values_K[index]) for column, values_K in table.items()}
        for index, name in enumerate(names)
    }


def constant_baseline(counts_KK: Tensor, names: Sequence[str], *, binary: bool) -> dict[str, Any]:
    """What a prediction that does not look at the images is worth, as plain data.

    `everywhere` is the class that scores best where every pixel is given it: the foreground of binary data by IoU,
    else the most frequent class by mIoU. `metrics` has its `scores`. `model_predicts_only` is the one class that the
    model has predicted, None if it has predicted several.
    """
    counts_KK = counts_KK.double().cpu()
    best = 1 if binary else int(counts_KK.sum(1).argmax())
    constant_KK = torch.zeros_like(counts_KK)
    constant_KK[:, best] = counts_KK.sum(1)
    predicted = counts_KK.sum(0).nonzero().flatten().tolist()
    return {
        "everywhere": names[best],
        "metrics": scores(constant_KK, binary=binary),
        "model_predicts_only": names[predicted[0]] if len(predicted) == 1 else None,
    }


def ratios(counts_KK: Tensor) -> dict[str, Tensor]:
    """`iou`, `dice`, `precision` and `recall` by class, (..., K) each, of confusion matrices (..., K, K)."""
    correct_K, truth_K, predicted_K = _correct(counts_KK), counts_KK.sum(-1), counts_KK.sum(-2)
    return {
        "iou": correct_K / (truth_K + predicted_K - correct_K),
        "dice": 2 * correct_K / (truth_K + predicted_K),
        "precision": correct_K / predicted_K,
        "recall": correct_K / truth_K,
    }


def _correct(counts_KK: Tensor) -> Tensor:
    return counts_KK.diagonal(dim1=-2, dim2=-1)


def image_counts(labels_BHW: Tensor, mask_BHW: Tensor, num_classes: int) -> Tensor:
    """Each image's confusion matrix, int64 (B, K, K) for `num_classes` (1..255) classes.

    Rows are truth, columns prediction. Labels are 0..K-1; ignored pixels (truth 255) are
    dropped here, as is every truth of K or more: the data sets refuse such labels when they read a mask.
    """
    size, images = num_classes * (num_classes + 1), len(mask_BHW)
    # Ignored pixels go to an extra row that is dropped below: 20 times faster than selecting the valid ones first.
    cells_BHW = mask_BHW.to(torch.int32, copy=True).clamp_max_(num_classes).mul_(num_classes)
    cells_BHW += labels_BHW.to(torch.int32)
    cells_BHW += torch.arange(images, dtype=torch.int32, device=cells_BHW.device).mul_(size).view(-1, 1, 1)
    counts = torch.bincount(cells_BHW.flatten(), minlength=size * images)
    return counts.view(images, num_classes + 1, num_classes)[:, :-1]


class ConfusionMatrix(Metric):
    """Counts of all pixels, int64 (K, K) for `num_classes` (1..255) classes: rows are truth, columns prediction.

    Integer sums: the same for any order, any batch size and any number of processes.
    """

    is_differentiable = False
    full_state_update = False
    counts: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        counts = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self.add_state("counts", default=counts, dist_reduce_fx="sum")

    def update(self, counts_BKK: Tensor) -> None:
        """Adds the matrices of images, as `image_counts` gives them."""
        self.counts += counts_BKK.sum(0)

    def compute(self) -> Tensor:
        """The counts of everything seen, (K, K) int64."""
        return self.counts


class MeanLoss(Metric):
    """Weighted mean in float64; nan without any weight."""

    is_differentiable = False
    full_state_update = False
    total: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "weight"):
            self.add_state(name, default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, value: Tensor | float, weight: Tensor | float) -> None:
        """Adds a mean over `weight` >= 0 items, such as a batch's loss over its valid pixels."""
        weight = torch.as_tensor(weight, dtype=torch.float64, device=self.weight.device)
        self.total += torch.as_tensor(value, dtype=torch.float64, device=self.total.device) * weight
        self.weight += weight

    def compute(self) -> Tensor:
        """The weighted mean, a float64 scalar."""
        return self.total / self.weight


_IMAGE_SCORES = ("miou", "dice", "pixel_accuracy")
_BINARY_IMAGE_SCORES = (*_IMAGE_SCORES, "iou")


def image_scores(counts_BKK: Tensor, *, binary: bool) -> list[Scores]:
    """`miou`, `dice` and `pixel_accuracy` (binary: `iou` as well) of each image, as `scores` defines them."""
    names = _BINARY_IMAGE_SCORES if binary else _IMAGE_SCORES
    table = columns(counts_BKK, binary=binary)
    values = zip(*(table[name].tolist() for name in names), strict=True)
    return [dict(zip(names, row, strict=True)) for row in values]


def image_means(rows: Sequence[Scores], *, binary: bool) -> Scores:
    """`image_miou_mean`, `image_miou_median` and so on over images, leaving out those whose score is nan.

    These are not the data set's scores, and have names of their own for that reason.
    """
    means = {}
    for name in _BINARY_IMAGE_SCORES if binary else _IMAGE_SCORES:
        values = [row[name] for row in rows if not math.isnan(row[name])]
        means[f"image_{name}_mean"] = fmean(values) if values else math.nan
        means[f"image_{name}_median"] = median(values) if values else math.nan
    return means
