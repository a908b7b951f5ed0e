"""From a histogram of scores (K, 2, N), negatives and positives by ascending score, to curves and their areas.

Everything is float64 on the CPU, and computed once. Definitions are scikit-learn's.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from segmentation.metrics.bins import lower_edges

_POINTS = 1000
"""Points of a curve to draw: a step is below a pixel of any picture."""

Columns = dict[str, list[float]]


class Threshold(NamedTuple):
    """The best place to cut, as `probability >= threshold` (0..1), and the scores there; nan where undefined."""

    threshold: float
    f1: float
    iou: float


def roc_auc(counts_K2N: Tensor) -> Tensor:
    """(K,) 0..1: the chance that a positive scores higher than a negative, equal scores counting half.

    nan where there are no positives or no negatives.
    """
    return torch.stack([_roc_auc(counts_2N.double().cpu()) for counts_2N in counts_K2N])


def average_precision(counts_K2N: Tensor) -> Tensor:
    """(K,) 0..1: sum over the positives of the precision at their score, by their number; nan without positives.

    A bin with empty neighbours is one tied score. One among others is a stretch of different scores: its
    positives and negatives are taken as evenly mixed.
    """
    return torch.stack([_average_precision(counts_2N.double().cpu()) for counts_2N in counts_K2N])


def best_threshold(counts_2N: Tensor) -> Threshold:
    """Where F1 is highest, and with it IoU = F1 / (2 - F1): one threshold is the best by both.

    It lies in the middle of the gap between the lowest score chosen and the highest one left out.
    """
    negatives_N, positives_N = counts_2N.double().cpu()
    if not positives_N.sum():
        return Threshold(math.nan, math.nan, math.nan)
    seen_N = negatives_N + positives_N
    f1_N = 2 * _from_the_top(positives_N) / (_from_the_top(seen_N) + positives_N.sum())
    occupied = seen_N.nonzero()[:, 0]
    place = int(f1_N[occupied].argmax())
    best = int(occupied[place])
    below = int(occupied[place - 1]) + 1 if place else 0
    gap = lower_edges()[below : best + 1]
    threshold = gap[(gap - (gap[0] + gap[-1]) / 2).abs().argmin()]
    f1 = float(f1_N[best])
    return Threshold(float(threshold), f1, f1 / (2 - f1))


def roc_points(counts_2N: Tensor) -> Columns:
    """`false_positive_rate`, `true_positive_rate` and `threshold`, from (0, 0) to (1, 1), at most 1,000 points.

    The first threshold is infinite, where nothing is chosen. Empty where there are no positives or no negatives.
    """
    false, true, threshold = _choices(counts_2N)
    if not (false[-1] and true[-1]):
        return {"false_positive_rate": [], "true_positive_rate": [], "threshold": []}
    x, y = false / false[-1], true / true[-1]
    kept = _thin(x, y)
    return {
        "false_positive_rate": x[kept].tolist(),
        "true_positive_rate": y[kept].tolist(),
        "threshold": threshold[kept].tolist(),
    }


def pr_points(counts_2N: Tensor) -> Columns:
    """`recall`, `precision` and `threshold`, by ascending recall, at most 1,000 points; empty without positives."""
    false, true, threshold = (values[1:] for values in _choices(counts_2N))
    if not len(true) or not true[-1]:
        return {"recall": [], "precision": [], "threshold": []}
    x, y = true / true[-1], true / (true + false)
    kept = _thin(x, y)
    return {
        "recall": x[kept].tolist(),
        "precision": y[kept].tolist(),
        "threshold": threshold[kept].tolist(),
    }


def _roc_auc(counts_2N: Tensor) -> Tensor:
    negatives_N, positives_N = counts_2N
    higher_N = _from_the_top(positives_N) - positives_N / 2
    return (negatives_N * higher_N).sum() / (negatives_N.sum() * positives_N.sum())


def _average_precision(counts_2N: Tensor) -> Tensor:
    occupied_N = counts_2N.sum(0) > 0
    alone_N = ~(nn.functional.pad(occupied_N, (0, 1))[1:] | nn.functional.pad(occupied_N, (1, 0))[:-1])
    held_N = counts_2N[1] > 0
    negatives, positives = counts_2N[:, held_N]
    true, chosen = (_from_the_top(values_N)[held_N] for values_N in (counts_2N[1], counts_2N.sum(0)))
    before = true - positives, chosen - positives - negatives
    precision = torch.where(alone_N[held_N], true / chosen, _mixed(negatives, positives, *before))
    return (positives * precision).sum() / positives.sum()


def _mixed(negatives: Tensor, positives: Tensor, true: Tensor, chosen: Tensor) -> Tensor:
    # The mean of the precision over the positives 1..m of a bin below `chosen`, by the discrete Gauss rule of three
    # points: exact for m up to 3, and for polynomials up to the fifth degree.
    middle, variance = (positives + 1) / 2, (positives.square() - 1) / 12
    reach = ((3 * positives.square() - 7) / 20).clamp_min(0.25).sqrt()
    outer = variance / (2 * reach.square())
    mean = torch.zeros_like(true)
    for passed, weight in ((middle - reach, outer), (middle, 1 - 2 * outer), (middle + reach, outer)):
        mean += weight * (true + passed) / (chosen + passed + negatives * passed / (positives + 1))
    return mean


def _from_the_top(values: Tensor) -> Tensor:
    return values.flip(-1).cumsum(-1).flip(-1)


def _choices(counts_2N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    # Negatives and positives chosen, and the threshold for it: nothing first, then a bin at a time.
    counts = counts_2N.double().cpu().flip(1)
    occupied = counts.sum(0) > 0
    false, true = (nn.functional.pad(row[occupied].cumsum(0), (1, 0)) for row in counts)
    threshold = nn.functional.pad(lower_edges().flip(0)[occupied], (1, 0), value=math.inf)
    return false, true, threshold


def _thin(x: Tensor, y: Tensor) -> Tensor:
    # Points at even steps along the curve, its ends among them.
    if len(x) <= _POINTS:
        return torch.arange(len(x))
    way = nn.functional.pad((x.diff().abs() + y.diff().abs()).cumsum(0), (1, 0))
    steps = torch.linspace(0, float(way[-1]), _POINTS, dtype=way.dtype)
    return torch.searchsorted(way, steps).clamp_max(len(x) - 1).unique()
