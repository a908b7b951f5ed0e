"""Bins for probabilities: even ones of 2^-17, and ever finer ones where a network's scores crowd, near 0 and near 1.

Within 2^-9 of an end a bin is what the distance to it has in common as a float: the exponent and the leading bits of
the mantissa. So there a bin spans at most 2^-8 of that distance (2^-4 below 2^-25), about as a float's own steps in
logit space. Every value of an 8-bit or bfloat16 score has a bin to itself.

What is lost is the order within a bin. The ROC area is wrong by at most half the chance that a positive and a negative
share one, the precision at a positive by at most its bin's negatives over all that score no less, F1 by at most its
bin's share of what is chosen. Areas and the best F1 so agree with those of the scores themselves to 1e-4 for scores
that spread over a tenth of 0..1 or crowd near its ends. Where there are but a hundred positives among far more
negatives, or all scores lie within a hundredth and far from both ends, as an untrained network's may, each first
positive weighs so much that the precision-recall area and the best F1 may be off by a few thousandths.
"""

from functools import cache

import torch
from torch import Tensor

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
