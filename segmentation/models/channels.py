"""Weights made for three channels, on images of another number of them."""

import torch
from torch import Tensor, nn


def widen_input(trunk: nn.Module, in_channels: int) -> None:
    """Makes the first convolution of `trunk` take that many channels, in place, from its own filters."""
    first = next(layer for layer in trunk.modules() if isinstance(layer, nn.Conv2d))
    if first.in_channels != in_channels:
        first.weight = nn.Parameter(adapt_filters(first.weight.detach(), in_channels))
        first.in_channels = in_channels


def adapt_filters(weight_OCHW: Tensor, in_channels: int) -> Tensor:
    """A first convolution's weights (O, C, h, w) for `in_channels` images: trained filters are kept.

    One channel gets their sum: grey images are then seen as their three equal channels were. More are the
    old ones in turn (of RGB: R, G, B, R, ...), scaled so that the answer keeps its size.
    """
    given = weight_OCHW.shape[1]
    if in_channels == 1:
        return weight_OCHW.sum(1, keepdim=True)
    return in_turn(weight_OCHW, in_channels, dim=1) * (given / in_channels)


def in_turn(values: Tensor, count: int, *, dim: int = 0) -> Tensor:
    """`count` entries along `dim`: those given, over and over."""
    return values.index_select(dim, torch.arange(count, device=values.device) % values.shape[dim])
