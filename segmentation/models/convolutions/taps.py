"""3x3 convolutions whose taps lie so far apart that many of them fall beside the map."""

from collections.abc import Iterator
from itertools import pairwise, product
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv2d


class InsideTaps(torch.autograd.Function):
    """(values, weight, rate) -> the convolution; its gradients pass over the taps beside the map.

    oneDNN does so by itself forward, but not backward.
    """

    @staticmethod
    def forward(ctx: Any, values_BCHW: Tensor, weight_KCRR: Tensor, rate: int) -> Tensor:
        ctx.save_for_backward(values_BCHW, weight_KCRR)
        ctx.rate = rate
        return conv2d(values_BCHW, weight_KCRR, padding=rate, dilation=rate)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BKHW: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        values_BCHW, weight_KCRR = ctx.saved_tensors
        of_values, of_weight, _ = ctx.needs_input_grad
        with torch.autocast("cpu", enabled=False):
            found = _gradients(values_BCHW, weight_KCRR, grad_BKHW, ctx.rate, of_values, of_weight)
        return *found, None


def inside(size: tuple[int, int], rate: int) -> int:
    """Of the nine taps at each cell of a (height, width) map those inside of it, all together."""
    height, width = (side + 2 * max(side - rate, 0) for side in size)
    return height * width


def _gradients(
    values_BCHW: Tensor, weight_KCRR: Tensor, grad_BKHW: Tensor, rate: int, of_values: bool, of_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    values_BHWC, grad_BHWK = values_BCHW.permute(0, 2, 3, 1), grad_BKHW.permute(0, 2, 3, 1)
    weight_RRKC = weight_KCRR.permute(2, 3, 0, 1).contiguous()
    values_grad_BHWC = torch.empty_like(values_BHWC, memory_format=torch.contiguous_format)
    # Shares of several parts are added up in float32 at least.
    weight_grad_RRKC = torch.zeros_like(
        weight_RRKC, dtype=torch.promote_types(weight_RRKC.dtype, torch.float32)
    )
    for (rows, down), (columns, right) in product(*(_bands(side, rate) for side in values_BHWC.shape[1:3])):
        # All answers in which this part of the map has a share, beside each other: one product a part.
        taps, place = list(product(down, right)), (slice(None), rows, columns)
        shares = [grad_BHWK[:, _seen(rows, row, rate), _seen(columns, column, rate)] for row, column in taps]
        shared = torch.cat(shares, dim=3).flatten(0, 2)
        if of_values:
            values_grad = shared @ torch.cat([weight_RRKC[tap] for tap in taps])
            values_grad_BHWC[place] = values_grad.view(values_grad_BHWC[place].shape)
        if of_weight:
            weight_grads = shared.T @ values_BHWC[place].reshape(len(shared), -1)
            for tap, grad in zip(taps, weight_grads.chunk(len(taps)), strict=True):
                weight_grad_RRKC[tap] += grad
    values_grad_BCHW = values_grad_BHWC.permute(0, 3, 1, 2) if of_values else None
    weight_grad_KCRR = weight_grad_RRKC.permute(2, 3, 0, 1).to(weight_KCRR.dtype) if of_weight else None
    return values_grad_BCHW, weight_grad_KCRR


def _bands(side: int, rate: int) -> Iterator[tuple[slice, list[int]]]:
    """Parts of a side whose cells are seen by the same taps, and these taps."""
    for start, end in pairwise(sorted({0, min(rate, side), max(side - rate, 0), side})):
        yield slice(start, end), [tap for tap in range(3) if 0 <= start + (1 - tap) * rate < side]


def _seen(cells: slice, tap: int, rate: int) -> slice:
    """Where the answers lie that see these cells by the tap."""
    shift = (1 - tap) * rate
    return slice(cells.start + shift, cells.stop + shift)
