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
    counts = counts_KK.double().cpu()
    by_class = _ratios(counts)
    iou, pixels = by_class["iou"], counts.sum(1)
    values = {
        "miou": iou.nanmean(),
        "pixel_accuracy": counts.diagonal().sum() / counts.sum(),
        "mean_accuracy": by_class["recall"].nanmean(),
        "fw_iou": (iou * pixels).nansum() / counts.sum(),
    }
    if binary:
        values |= {name: ratio[1] for name, ratio in by_class.items()}
        values["specificity"] = by_class["recall"][0]
    else:
        values |= {name: ratio.nanmean() for name, ratio in by_class.items() if name != "iou"}
    values["f1"] = values["dice"]
    values["classes_counted"] = (~iou.isnan()).sum()
    return {name: float(value) for name, value in values.items()}


def per_class(counts_KK: Tensor, names: Sequence[str]) -> dict[str, Scores]:
    """`iou`, `dice`, `precision` and `recall` of each class, 0..1 or nan, and its true `pixels`."""
    counts = counts_KK.double().cpu()
    columns = _ratios(counts) | {"pixels": counts.sum(1)}
    return {
        name: {column: float(values[index]) for column, values in columns.items()}
        for index, name in enumerate(names)
    }


def _ratios(counts_KK: Tensor) -> dict[str, Tensor]:
    right, truth, predicted = counts_KK.diagonal(), counts_KK.sum(1), counts_KK.sum(0)
    return {
        "iou": right / (truth + predicted - right),
        "dice": 2 * right / (truth + predicted),
        "precision": right / predicted,
        "recall": right / truth,
    }
