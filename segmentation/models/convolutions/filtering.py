"""Winograd's minimal filtering (Lavin and Gray 2015, arXiv:1509.09308): 3x3 convolutions by a quarter of the products.

A tile of m x m answers comes from n x n pixels, n = m + 2, by n * n products for a pair of channels, not 9 * m * m.
Fixed matrices bring pixels, weights and answers there and back; in between lie n * n matrix products over channels.
A dilated convolution is plain ones of the pixels whose row and column are equal modulo the dilation.

In shapes S counts the n * n places of a tile and T the tiles of some images; R is a side of the kernel, 3.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from segmentation.models.convolutions.matrices import matrices_for

_AT_ONCE = 2**21
"""Transformed values of pixels: what stays in a processor's cache. Small maps share a reading of the weights so."""


class Tiling(NamedTuple):
    """`rows` x `columns` tiles of `side` x `side` answers in each of dilation x dilation phases of a map."""

    side: int
    dilation: int
    rows: int
    columns: int

    @classmethod
    def of(cls, size: tuple[int, int], side: int, dilation: int) -> "Tiling":
        """The tiles that cover a map of (height, width)."""
        rows, columns = (-(-length // (side * dilation)) for length in size)
        return cls(side, dilation, rows, columns)

    @property
    def reach(self) -> int:
        """Pixels that a tile sees along a side."""
        return self.side + 2

    @property
    def tiles(self) -> int:
        """Tiles of a map."""
        return self.rows * self.columns * self.dilation**2

    @property
    def products(self) -> int:
        """Multiplications for a map and a pair of channels."""
        return self.tiles * self.reach**2


def transform(weight_KCRR: Tensor, tiling: Tiling) -> Tensor:
    """(K, C, 3, 3) -> (S, C, K)."""
    outputs, channels = weight_KCRR.shape[:2]
    flat = weight_KCRR.permute(2, 3, 1, 0).reshape(9, -1)
    return (matrices_for(tiling.side, flat.dtype).weights @ flat).view(-1, channels, outputs)


def convolve(values_BCHW: Tensor, weight_SCK: Tensor, tiling: Tiling, bias: Tensor | None = None) -> Tensor:
    """(B, C, H, W) -> (B, K, H, W), channels last in memory."""
    batch, _, height, width = values_BCHW.shape
    at_once = _at_once(values_BCHW, tiling)
    matrices, outputs = matrices_for(tiling.side, values_BCHW.dtype), weight_SCK.shape[-1]
    found_BHWK = values_BCHW.new_empty(batch, *_covered(tiling), outputs)
    for images, places in zip(values_BCHW.split(at_once), found_BHWK.split(at_once), strict=True):
        products_STK = torch.bmm(_pixels(images, tiling), weight_SCK)
        cells = _cells(places, tiling)
        answers = torch.matmul(matrices.answers, products_STK.transpose(0, 1)).view(cells.shape)
        cells.copy_(answers if bias is None else answers.add_(bias))
    found_BKHW = found_BHWK[:, :height, :width].permute(0, 3, 1, 2)
    return found_BKHW.contiguous(memory_format=torch.channels_last)


def weight_gradient(values_BCHW: Tensor, grad_BKHW: Tensor, tiling: Tiling) -> Tensor:
    """The gradient of the (K, C, 3, 3) weights, from that of the answers."""
    at_once = _at_once(values_BCHW, tiling)
    channels, outputs = values_BCHW.shape[1], grad_BKHW.shape[1]
    matrices = matrices_for(tiling.side, values_BCHW.dtype)
    total_SCK = values_BCHW.new_zeros(tiling.reach**2, channels, outputs)
    for images, grads in zip(values_BCHW.split(at_once), grad_BKHW.split(at_once), strict=True):
        covered = _framed(grads, 0, _covered(tiling))
        answers = _cells(covered, tiling).reshape(-1, tiling.side**2, outputs)
        places_STK = torch.matmul(matrices.answers.T, answers).transpose(0, 1)
        total_SCK.baddbmm_(_pixels(images, tiling).transpose(1, 2), places_STK)
    flat = matrices.weights.T @ total_SCK.flatten(1)
    return flat.view(3, 3, channels, outputs).permute(3, 2, 0, 1)


class Filtered(torch.autograd.Function):
    """(values, weight, tiling) -> the convolution; its gradients are computed in such tiles, too."""

    @staticmethod
    def forward(ctx: Any, values_BCHW: Tensor, weight_KCRR: Tensor, tiling: Tiling) -> Tensor:
        ctx.save_for_backward(values_BCHW, weight_KCRR)
        ctx.tiling = tiling
        found_BKHW = convolve(values_BCHW, transform(weight_KCRR, tiling), tiling)
        return found_BKHW.detach()  # no view, so that an activation may work in place

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BKHW: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (values_BCHW, weight_KCRR), tiling = ctx.saved_tensors, ctx.tiling
        grad_values = grad_weight = None
        with torch.autocast("cpu", enabled=False):
            if ctx.needs_input_grad[0]:
                turned_SKC = transform(weight_KCRR.flip(2, 3).transpose(0, 1), tiling)
                grad_values = convolve(grad_BKHW, turned_SKC, tiling)
            if ctx.needs_input_grad[1]:
                grad_weight = weight_gradient(values_BCHW, grad_BKHW, tiling)
        return grad_values, grad_weight, None


def _at_once(values_BCHW: Tensor, tiling: Tiling) -> int:
    return max(1, _AT_ONCE // (tiling.products * values_BCHW.shape[1]))


def _pixels(values_BCHW: Tensor, tiling: Tiling) -> Tensor:
    """What the tiles see, transformed: (S, T, C)."""
    batch, channels = values_BCHW.shape[:2]
    side, step, rows, columns = tiling
    height, width = (length + 2 * step for length in _covered(tiling))
    framed = _framed(values_BCHW, step, (height, width))
    down, right = width * channels, channels
    # Neighbouring tiles share a border of two pixels, so this is a view of overlapping parts.
    seen = framed.as_strided(
        (batch, rows, step, columns, step, tiling.reach, tiling.reach, channels),
        (height * down, side * step * down, down, side * step * right, right, step * down, step * right, 1),
    )
    # Tile by tile: one product of all tiles together would run through memory instead of a cache.
    tiles = seen.flatten(5, 6).flatten(0, 4)
    return torch.matmul(matrices_for(side, values_BCHW.dtype).pixels, tiles).transpose(0, 1)


def _framed(values_BCHW: Tensor, border: int, size: tuple[int, int]) -> Tensor:
    """(B, *size, C), zero around the values, which start at (border, border)."""
    batch, channels, height, width = values_BCHW.shape
    framed = values_BCHW.new_zeros(batch, *size, channels)
    framed[:, border : border + height, border : border + width] = values_BCHW.permute(0, 2, 3, 1)
    return framed


def _covered(tiling: Tiling) -> tuple[int, int]:
    """Height and width of all tiles together: the map's or more."""
    step = tiling.side * tiling.dilation
    return tiling.rows * step, tiling.columns * step


def _cells(map_BHWK: Tensor, tiling: Tiling) -> Tensor:
    """A view of a covered map by the answers' places in their tiles: (B, rows, d, columns, d, m, m, K)."""
    side, step, rows, columns = tiling
    apart = map_BHWK.view(len(map_BHWK), rows, side, step, columns, side, step, map_BHWK.shape[-1])
    return apart.permute(0, 1, 3, 4, 6, 2, 5, 7)
