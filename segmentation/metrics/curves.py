"""From a histogram of scores (K, 2, N), negatives and positives by ascending score, to curves and their areas.

Everything is float64 on the CPU, and computed once. Definitions are scikit-learn's.
"""

import math
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from segmentation.types import is_ignored

# MERGED FROM metrics/slabs: Large images in pieces that stay in the processor's cache: at six megapixels twice as f
# MERGED FROM metrics/bins: Bins for probabilities: even ones of 2^-17, and ever finer ones where a network's scores
# MERGED FROM metrics/histogram: Scores by truth, in constant memory: what ROC and precision-recall curves are drawn

_VALUES = 2**18
"""Probabilities in a piece: a megabyte."""


def chunks(probabilities_BKHW: Tensor, *maps_BHW: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same pixels of everything, piece by piece: float32 (B, K, pixels), and (B, pixels) of each map."""
    batch, scores = probabilities_BKHW.shape[:2]
    length = max(_VALUES // (batch * scores), 1)
    pieces = [probabilities_BKHW.flatten(2).split(length, 2)]
    pieces += [map_BHW.flatten(1).split(length, 1) for map_BHW in maps_BHW]
    for piece_BKP, *maps_BP in zip(*pieces, strict=True):
        yield piece_BKP.float(), *maps_BP


_STEPS = 2.0**17
"""Even bins in 0..1."""

_END = 2.0**-9
"""The distance from 0 and 1 up to which the look-up table is asked: a step of it is an even bin."""

_MANTISSA = 8
"""Leading mantissa bits that the table tells apart."""

_SHIFT = 23 - _MANTISSA
_SIGN = 1 << (31 - _SHIFT)

_SQUEEZE = 1 - 2**-24
"""Brings 1 down to the float below it, so that p - round(p) keeps the end that p is near to."""


def _starts() -> tuple[Tensor, Tensor]:
    """(119,) mantissa bits kept for each exponent of a distance up to `_END`, and the first bin of each."""
    bits = torch.zeros(119, dtype=torch.int64)
    bits[1:102] = 4  # below 2^-25
    bits[102:118] = 8
    return bits, (1 << bits).cumsum(0) - (1 << bits)


@cache
def num_bins() -> int:
    """How many bins there are, N; bins ascend with the probability."""
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
    distance -= distance.round()
    end = distance.clamp(-_END, _END)
    distance -= end
    keys = end.view(torch.int32)
    keys >>= _SHIFT
    keys += _SIGN
    bins = table.index_select(0, keys.flatten())
    # Whole steps beyond the end's own bin, towards the middle: exact, all are powers of two.
    bins += distance.mul_(_STEPS).nan_to_num_(0).flatten().to(torch.int32)
    return bins


@cache
def lower_edges() -> Tensor:
    """float64 (N,): the lowest float32 probability of each bin, found by bisection over the floats."""
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
    """Counts of pixels, int64 (K, 2, N): for each of `num_scores` probabilities negatives, then positives, by bin.

    One score is the foreground's, and label 1 is positive; several are one-vs-rest, label k positive for the kth.
    Bins ascend with the probability (`metrics.bins`). Sums of whole numbers: the same for any order, any batch
    size and any number of processes.
    """

    is_differentiable = False
    full_state_update = False
    counts: Tensor
    table: Tensor

    def __init__(self, num_scores: int) -> None:
        super().__init__()
        self.num_scores = num_scores
        # What counts nowhere has cells of its own, cut off in the end: for nan one in each row, for 255 one past all.
        self._row = num_bins() + 1
        self._past = num_scores * 2 * self._row
        counts = torch.zeros(num_scores, 2, num_bins(), dtype=torch.int64)
        self.add_state("counts", default=counts, dist_reduce_fx="sum")
        self.register_buffer("table", bin_table(), persistent=False)

    def update(self, probabilities_BKHW: Tensor, mask_BHW: Tensor) -> None:
        """Counts probabilities (0..1) against the truth; pixels whose truth is 255 and nan scores are left out."""
        cells = torch.cat([self._cells(*slab) for slab in chunks(probabilities_BKHW, mask_BHW)])
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
        # As a sum and a limit: choosing pixel by pixel takes several times as long.
        cells_BKP += ignored_B1P.to(torch.int32) * self._past
        return cells_BKP.clamp_max_(self._past).flatten()


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
