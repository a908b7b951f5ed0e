"""ROC and precision-recall curves, their areas and the best threshold, in constant memory.

Pixels are counted in a histogram of scores (K, 2, N): for each of K scores the negatives and the positives, by
ascending score. Curves and areas are computed from it once, at the end, in float64 on the CPU. Definitions are
scikit-learn's, which sorts all pixels instead.
"""

import math
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from segmentation.types import is_ignored

_CHUNK = 2**18
"""Probabilities in a chunk: one megabyte, which stays in the processor's cache."""


def chunks(probabilities_BKHW: Tensor, *maps_BHW: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Chunks of pixels: float32 probabilities (B, K, pixels), and (B, pixels) of each map.

    At six megapixels, counting chunk by chunk is twice as fast as counting the whole image at once.
    """
    batch, scores = probabilities_BKHW.shape[:2]
    length = max(_CHUNK // (batch * scores), 1)
    parts = [probabilities_BKHW.flatten(2).split(length, 2)]
    parts += [map_BHW.flatten(1).split(length, 1) for map_BHW in maps_BHW]
    for probabilities_BKP, *maps_BP in zip(*parts, strict=True):
        yield probabilities_BKP.float(), *maps_BP


# Bins: even steps of 2^-17 in the middle, and finer ones near 0 and near 1, where a network's scores crowd. Bins of
# one relative width (the upper bits of the float) would need a third of the code, but with few positives among
# scores of a narrow range their average precision is off by up to 0.01; with these by less than 0.0001.


_STEPS = 2.0**17
"""Even bins between 0 and 1."""

_END = 2.0**-9
"""Distance from 0 and from 1 below which bins come from the look-up table."""

_MANTISSA = 8
"""Leading mantissa bits that the table distinguishes."""

_SHIFT = 23 - _MANTISSA
_SIGN = 1 << (31 - _SHIFT)

_SQUEEZE = 1 - 2**-24
"""Maps 1 to the float just below it, so that the sign of p - round(p) says whether p is near 0 or near 1."""


def _starts() -> tuple[Tensor, Tensor]:
    """For each of the 119 exponents of a distance up to `_END`: mantissa bits that count, and the first bin."""
    bits = torch.zeros(119, dtype=torch.int64)
    bits[1:102] = 4  # below 2^-25
    bits[102:118] = 8
    return bits, (1 << bits).cumsum(0) - (1 << bits)


@cache
def num_bins() -> int:
    """The number of bins, N (141,988); bins ascend with the probability."""
    even = int((0.5 - _END) * _STEPS) + 1
    return 2 * (int(_starts()[1][-1]) + even)


@cache
def bin_table() -> Tensor:
    """int32 (2^17,): the bin, 0..N-1, for the leading bits of a signed distance up to `_END`, or N for nan."""
    bits, starts = _starts()
    keys = torch.arange(_SIGN)
    exponent, mantissa = keys >> _MANTISSA, keys & ((1 << _MANTISSA) - 1)
    known = exponent.clamp_max(len(bits) - 1)
    low = starts[known] + (mantissa >> (_MANTISSA - bits[known]))
    high = num_bins() - 1 - low  # near 1 the distance is negative: bins in the opposite order
    table = torch.cat([high, low])  # a negative integer sorts first
    table[torch.cat([exponent, exponent]) >= len(bits)] = num_bins()
    return table.to(torch.int32)


def to_bins(probabilities: Tensor, table: Tensor) -> Tensor:
    """int32 bins 0..N-1 of float32 probabilities, flat; N for nan.

    `table` is `bin_table`, on the device of the probabilities.
    """
    distance = probabilities * _SQUEEZE
    distance.clamp_max_(_SQUEEZE)  # the weights of tiles that blend add up to one but for rounding
    distance -= distance.round()
    end = distance.clamp(-_END, _END)
    distance -= end
    keys = end.view(torch.int32)
    keys >>= _SHIFT
    keys += _SIGN
    bins = table.index_select(0, keys.flatten())
    # Add the even steps between the end and the probability. Exact: all factors are powers of two.
    bins += distance.mul_(_STEPS).nan_to_num_(0).flatten().to(torch.int32)
    return bins


@cache
def lower_edges() -> Tensor:
    """float64 (N,): the lowest float32 probability of each bin, found by bisection over all floats."""
    bins = torch.arange(num_bins())
    low = torch.zeros(num_bins(), dtype=torch.int32)
    high = torch.full_like(low, 0x3F800001)  # just above one
    while bool((low < high).any()):
        middle = low + (high - low) // 2
        reached = to_bins(middle.view(torch.float32), bin_table()) >= bins
        high = torch.where(reached, middle, high)
        low = torch.where(reached, low, torch.minimum(middle + 1, high))
    return low.view(torch.float32).double()


class ScoreHistogram(Metric):
    """Pixel counts, int64 (K, 2, N): for each of `num_scores` probabilities the negatives and positives by bin.

    A single score is the foreground's (label 1 is positive); several are one-vs-rest (label k is positive for the
    kth). Integer sums: the same for any order, any batch size and any number of processes.
    """

    is_differentiable = False
    full_state_update = False
    counts: Tensor
    table: Tensor

    def __init__(self, num_scores: int) -> None:
        super().__init__()
        self.num_scores = num_scores
        # Ignored pixels get extra cells that are dropped: nan scores one at the end of each row, label 255 the last.
        self._row = num_bins() + 1
        self._past = num_scores * 2 * self._row
        counts = torch.zeros(num_scores, 2, num_bins(), dtype=torch.int64)
        self.add_state("counts", default=counts, dist_reduce_fx="sum")
        self.register_buffer("table", bin_table(), persistent=False)

    def update(self, probabilities_BKHW: Tensor, mask_BHW: Tensor) -> None:
        """Adds probabilities (0..1) with their truth; ignored pixels (255) and nan scores are left out."""
        cells = torch.cat([self._cells(*chunk) for chunk in chunks(probabilities_BKHW, mask_BHW)])
        counts = torch.bincount(cells, minlength=self._past + 1)[:-1]
        self.counts += counts.view(self.num_scores, 2, self._row)[..., :-1]

    def compute(self) -> Tensor:
        """The counts of everything seen, (K, 2, N) int64."""
        return self.counts

    def _cells(self, probabilities_BKP: Tensor, mask_BP: Tensor) -> Tensor:
        mask_B1P = mask_BP[:, None]
        ignored_B1P = is_ignored(mask_B1P)
        cells_BKP = to_bins(probabilities_BKP, self.table).view(probabilities_BKP.shape)
        scores_K = torch.arange(self.num_scores, dtype=torch.int32, device=cells_BKP.device)
        cells_BKP += scores_K[:, None] * (2 * self._row)
        if self.num_scores == 1:
            cells_BKP += mask_B1P.to(torch.int32) * self._row
        else:
            truth_B1P = mask_B1P.long() * ~ignored_B1P
            cells_BKP.scatter_add_(1, truth_B1P, torch.full_like(cells_BKP[:, :1], self._row))
        # Adding and clamping is several times faster than `torch.where`.
        cells_BKP += ignored_B1P.to(torch.int32) * self._past
        return cells_BKP.clamp_max_(self._past).flatten()


_POINTS = 1000
"""Points kept of a curve: more than a picture has pixels across."""

Columns = dict[str, list[float]]


class Threshold(NamedTuple):
    """The best threshold (foreground where probability >= threshold, 0..1) and its scores; nan where undefined."""

    threshold: float
    f1: float
    iou: float


def roc_auc(counts_K2N: Tensor) -> Tensor:
    """(K,) 0..1: the chance that a positive scores higher than a negative, equal scores counting half.

    nan where there are no positives or no negatives.
    """
    return torch.stack([_roc_auc(counts_2N.double().cpu()) for counts_2N in counts_K2N])


def average_precision(counts_K2N: Tensor) -> Tensor:
    """(K,) 0..1: mean over the positives of the precision at their score; nan without positives.

    A bin whose neighbours are empty is taken as one tied score; in any other bin the scores are taken as different
    and its positives and negatives as evenly mixed.
    """
    return torch.stack([_average_precision(counts_2N.double().cpu()) for counts_2N in counts_K2N])


def best_threshold(counts_2N: Tensor) -> Threshold:
    """The threshold with the highest F1, which also has the highest IoU, since IoU = F1 / (2 - F1).

    It lies halfway between the lowest score that is foreground and the highest one that is not.
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

    The first threshold is infinite: no pixel is foreground. Empty where there are no positives or no negatives.
    """
    false, true, threshold = _by_threshold(counts_2N)
    if not (false[-1] and true[-1]):
        return {"false_positive_rate": [], "true_positive_rate": [], "threshold": []}
    rates = {"false_positive_rate": false / false[-1], "true_positive_rate": true / true[-1]}
    return _thin({**rates, "threshold": threshold})


def pr_points(counts_2N: Tensor) -> Columns:
    """`recall`, `precision` and `threshold`, by ascending recall, at most 1,000 points; empty without positives."""
    false, true, threshold = (values[1:] for values in _by_threshold(counts_2N))
    if not len(true) or not true[-1]:
        return {"recall": [], "precision": [], "threshold": []}
    return _thin({"recall": true / true[-1], "precision": true / (true + false), "threshold": threshold})


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
    # Mean precision over the m positives of a bin, by three-point discrete Gauss quadrature: exact for m <= 3 and for
    # polynomials up to degree five.
    middle, variance = (positives + 1) / 2, (positives.square() - 1) / 12
    reach = ((3 * positives.square() - 7) / 20).clamp_min(0.25).sqrt()
    outer = variance / (2 * reach.square())
    mean = torch.zeros_like(true)
    for passed, weight in ((middle - reach, outer), (middle, 1 - 2 * outer), (middle + reach, outer)):
        mean += weight * (true + passed) / (chosen + passed + negatives * passed / (positives + 1))
    return mean


def _from_the_top(values: Tensor) -> Tensor:
    return values.flip(-1).cumsum(-1).flip(-1)


def _by_threshold(counts_2N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    # False and true positives at each threshold: first none at an infinite one, then bin by bin downwards.
    counts = counts_2N.double().cpu().flip(1)
    occupied = counts.sum(0) > 0
    false, true = (nn.functional.pad(row[occupied].cumsum(0), (1, 0)) for row in counts)
    threshold = nn.functional.pad(lower_edges().flip(0)[occupied], (1, 0), value=math.inf)
    return false, true, threshold


def _thin(columns: dict[str, Tensor]) -> Columns:
    # Points at even distances along the curve of the first two columns, including both ends.
    x, y, *_ = columns.values()
    if len(x) > _POINTS:
        way = nn.functional.pad((x.diff().abs() + y.diff().abs()).cumsum(0), (1, 0))
        steps = torch.linspace(0, float(way[-1]), _POINTS, dtype=way.dtype)
        kept = torch.searchsorted(way, steps).clamp_max(len(x) - 1).unique()
        columns = {name: values[kept] for name, values in columns.items()}
    return {name: values.tolist() for name, values in columns.items()}
