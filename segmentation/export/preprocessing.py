"""The resize of `data/augmentation.py` in tensors, so that it can be part of an exported graph.

OpenCV resizes bytes bilinearly in integers: the same arithmetic is here, to the bit, because a picture that is one
level off moves probabilities by more than the rounding of a whole network does. It averages areas in float32, as is
done here: where a mean lies at the middle of two levels, which is rare, the sums may round to either of them. Where
one side is more than halved and the other grows, OpenCV itself takes one or the other neighbour for single columns.
"""

import torch
from torch import Tensor, nn

_ONE = 2048  # OpenCV's weights have 11 bits


class Resize(nn.Module):
    """Raw pixels float32 (B, C, H, W) in whole numbers -> the same at `size`, as by `resize_image`."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self._size = size

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Area averages where a side is more than halved, else bilinear."""
        height, width = (torch.scalar_tensor(side, dtype=torch.int64) for side in pixels_BCHW.shape[-2:])
        skips = (height > 2 * self._size[0]) | (width > 2 * self._size[1])
        shrinks = (height >= self._size[0]) & (width >= self._size[1])
        resized: Tensor = torch.cond(skips & shrinks, self._area, self._bilinear, (pixels_BCHW, skips))
        return resized

    def _area(self, pixels_BCHW: Tensor, skips: Tensor) -> Tensor:
        height, width = pixels_BCHW.shape[-2:]
        rows, columns = _overlaps(height, self._size[0]), _overlaps(width, self._size[1])
        # The weights are pixels: whole factors give whole sums, and ties are rounded as OpenCV does.
        sums_BCHW = rows @ (pixels_BCHW @ columns.T)
        share = self._size[0] * self._size[1] / (_length(height) * _length(width))
        return (sums_BCHW * share.float()).round()

    def _bilinear(self, pixels_BCHW: Tensor, skips: Tensor) -> Tensor:
        (height, width), levels_BCHW = pixels_BCHW.shape[-2:], pixels_BCHW.int()
        left, right, near, far = _taps(width, self._size[1], skips, clamped=True)
        rows_BCHW = levels_BCHW[..., left] * near + levels_BCHW[..., right] * far
        top, bottom, near, far = _taps(height, self._size[0], skips, clamped=False)
        rows_BCHW = rows_BCHW // 16
        upper_BCHW = rows_BCHW[:, :, top] * near[:, None] // 2**16
        lower_BCHW = rows_BCHW[:, :, bottom] * far[:, None] // 2**16
        return ((upper_BCHW + lower_BCHW + 2) // 4).float()


def _length(side: int) -> Tensor:
    # As a tensor: the exporter has no arithmetic of float64 for sizes.
    return torch.scalar_tensor(side, dtype=torch.float64)


def _overlaps(length: int, size: int) -> Tensor:
    """float32 (size, length): how much of each pixel lies in each of the `size` cells."""
    step = _length(length) / size
    start = torch.arange(size, dtype=torch.float64)[:, None] * step
    pixel = torch.arange(length).double()
    return (torch.minimum(start + step, pixel + 1) - torch.maximum(start, pixel)).clamp(min=0).float()


def _taps(length: int, size: int, skips: Tensor, *, clamped: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The two pixels of each of the `size` new ones, and their weights, which sum to `_ONE`.

    Where one side shrinks by area and the other grows, OpenCV puts the new pixels elsewhere. Beyond the edge columns
    have all their weight on one pixel (`clamped`), rows twice a share of it, which OpenCV rounds twice.
    """
    last, scale = length - 1, size / _length(length)
    step = torch.reciprocal(
        scale
    )  # ONNX Runtime would make a division of `1 / scale`, which rounds otherwise
    cell = torch.arange(size, dtype=torch.float64)
    usual = ((cell + 0.5) * step - 0.5).float()
    whole = (cell * step).floor()
    part = (cell + 1 - (whole + 1) * scale).float()
    part = torch.where(part <= 0, torch.zeros_like(part), part - part.floor())
    first = torch.where(skips, whole, usual.floor().double()).long()
    far = torch.where(skips, part, usual - usual.floor())
    if clamped:
        far = torch.where((first < 0) | (first >= last), torch.zeros_like(far), far)
        first = first.clamp(min=0)
    weights = ((1 - far) * _ONE).round().int(), (far * _ONE).round().int()
    return first.clamp(min=0).clamp(max=last), (first + 1).clamp(min=0).clamp(max=last), *weights
