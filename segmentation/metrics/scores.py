"""Scores from counts alone, so that they are exact for the whole data set whatever the batches were."""

from collections.abc import Sequence

from torch import Tensor

Scores = dict[str, float]


def scores(counts_KK: Tensor, *, binary: bool) -> Scores:
    """The scores of a confusion matrix (rows truth, columns prediction), each 0..1, nan where undefined.

    A ratio is undefined where its denominator is zero: the IoU and Dice of a class in neither truth nor
    prediction, the precision of a class never predicted, the recall of one without a pixel. Means over
    classes leave out what is undefined, as scikit-learn does with `zero_division=nan`:

    - `miou`: mean IoU, over `classes_counted` of the K classes
    - `pixel_accuracy`: share of right pixels; `mean_accuracy`: mean over classes of the share of their pixels
    - `fw_iou`: IoU weighted by each class's share of the pixels
    - `dice` and `f1` (the same for labels), `precision`, `recall`: means over classes; for binary data of the
      foreground, class 1, with its `iou` and `specificity`, the share of background left alone
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
        "pixel_accuracy": _right(counts_KK).sum(-1) / pixels,
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


def ratios(counts_KK: Tensor) -> dict[str, Tensor]:
    """`iou`, `dice`, `precision` and `recall` by class, (..., K) each, of confusion matrices (..., K, K)."""
    right_K, truth_K, predicted_K = _right(counts_KK), counts_KK.sum(-1), counts_KK.sum(-2)
    return {
        "iou": right_K / (truth_K + predicted_K - right_K),
        "dice": 2 * right_K / (truth_K + predicted_K),
        "precision": right_K / predicted_K,
        "recall": right_K / truth_K,
    }


def _right(counts_KK: Tensor) -> Tensor:
    return counts_KK.diagonal(dim1=-2, dim2=-1)
