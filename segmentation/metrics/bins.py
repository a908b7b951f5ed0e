"""Bins for probabilities: fine where a network's scores crowd, which is near 0 and near 1.

A probability p falls into a bin by its distance to the nearer end, min(p, 1 - p), read as a float: the exponent
and the leading bits of the mantissa. So a bin spans at most 2^-8 of that distance (2^-4 below 2^-25), about as a
float's own steps in logit space, and every value of an 8-bit or bfloat16 score has a bin to itself.
Areas agree with those of the scores themselves to 1e-4, unless all scores lie within a few thousandths of each other
and far from both ends, as an untrained network's may.
"""

from functools import cache

import torch
from torch import Tensor

_MANTISSA = 11
"""Leading mantissa bits that the look-up table can tell apart."""

_SHIFT = 23 - _MANTISSA
_SIGN = 1 << (31 - _SHIFT)

SQUEEZE = 1 - 2**-24
"""Brings 1 down to the float below it, so that p - round(p) keeps the end that p is near to."""


def _bits_per_octave() -> Tensor:
    """(256,) mantissa bits kept for each exponent of the distance; those above one half do not occur."""
    bits = torch.zeros(256, dtype=torch.int64)
    bits[1:102] = 4  # below 2^-25
    bits[102:118] = 8
    bits[118:122] = 9
    bits[122:124] = 10
    bits[124:126] = 11  # 1/8 to 1/2
    return bits


@cache
def num_bins() -> int:
    """How many bins there are, N; bins ascend with the probability."""
    return 2 * int((1 << _bits_per_octave()[:127]).sum())


@cache
def bin_table() -> Tensor:
    """int32 (2^20,): the bin, 0..N-1, for the leading bits of a signed distance, or N for nan and what is not one."""
    bits = _bits_per_octave()
    starts = (1 << bits).cumsum(0) - (1 << bits)
    keys = torch.arange(_SIGN)
    exponent, mantissa = keys >> _MANTISSA, keys & ((1 << _MANTISSA) - 1)
    low = starts[exponent] + (mantissa >> (_MANTISSA - bits[exponent]))
    high = num_bins() - 1 - low  # near 1 the distance is negative: bins in the opposite order
    table = torch.cat([high, low])  # a negative integer sorts first
    table[torch.cat([exponent, exponent]) > 126] = num_bins()
    return table.to(torch.int32)


def to_bins(probabilities: Tensor, squeeze: Tensor | float, table: Tensor) -> Tensor:
    """int32 bins 0..N-1 of float32 probabilities, flat; N for nan.

    `squeeze` is `SQUEEZE`, or nan where a value shall count nowhere; it broadcasts. `table` is `bin_table`, on
    the device of the probabilities.
    """
    distance = probabilities * squeeze
    distance -= distance.round()
    keys = distance.view(torch.int32)
    keys >>= _SHIFT
    keys += _SIGN
    return table.index_select(0, keys.flatten())


@cache
def lower_edges() -> Tensor:
    """float64 (N,): the lowest float32 probability of each bin, found by bisection over the floats."""
    bins = torch.arange(num_bins())
    low = torch.zeros(num_bins(), dtype=torch.int32)
    high = torch.full_like(low, 0x3F800001)  # just above one
    while bool((low < high).any()):
        middle = low + (high - low) // 2
        reached = to_bins(middle.view(torch.float32), SQUEEZE, bin_table()) >= bins
        high = torch.where(reached, middle, high)
        low = torch.where(reached, low, torch.minimum(middle + 1, high))
    return low.view(torch.float32).double()
