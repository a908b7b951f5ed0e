"""Depthwise convolutions that are trained on a processor at the speed of oneDNN's quick kernels."""

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

from segmentation.models.convolutions.base import Substitute, keeps_size, processor_dtype


class DepthwiseConv2d(Substitute):
    """A depthwise convolution; same weights, same values. Compiled, it is the plain one.

    oneDNN has quick backward passes for it in float32 alone, where bf16 takes two to thirteen times as long, and
    without dilation alone. So autocast's bf16 is widened, and with dilation d, where a pixel meets only those whose
    row and column are its own modulo d, an image is sorted by these: d x d small ones on which there is no dilation.
    With 576 channels of 16x16 that takes a quarter of the time, moving the pixels included.
    """

    def __init__(self, like: nn.Conv2d) -> None:
        super().__init__(like)
        self._in_phases = like.dilation[0] > 1 and keeps_size(like)

    def forward(self, values_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, h, w)."""
        # Without a way back bf16 is the quicker, and the dilated one.
        dtype = processor_dtype(values_BCHW) if self._learns(values_BCHW) else None
        if dtype is None:
            return super().forward(values_BCHW)
        if dtype != torch.bfloat16 or not torch.is_autocast_enabled("cpu"):
            return self._learning(values_BCHW)
        with torch.autocast("cpu", enabled=False):
            return self._learning(values_BCHW.to(self.weight.dtype)).to(dtype)

    def _learns(self, values_BCHW: Tensor) -> bool:
        leaves = (values_BCHW, *self.parameters())
        return torch.is_grad_enabled() and any(leaf.requires_grad for leaf in leaves)

    def _learning(self, values_BCHW: Tensor) -> Tensor:
        (height, width), step = values_BCHW.shape[-2:], self.dilation[0]
        if not self._in_phases or 2 * step > min(height, width):  # where little is left of a map
            return super().forward(values_BCHW)
        filled = pad(values_BCHW, (0, -width % step, 0, -height % step))
        padding = (self.kernel_size[0] // 2, self.kernel_size[1] // 2)
        found = conv2d(_part(filled, step), self.weight, self.bias, padding=padding, groups=self.groups)
        return _join(found, step)[..., :height, :width]


def is_depthwise(layer: nn.Conv2d) -> bool:
    """Whether `DepthwiseConv2d` can take the layer's place, and has anything to gain there."""
    return 1 < layer.groups == layer.in_channels == layer.out_channels and layer.padding_mode == "zeros"


def _part(values_BCHW: Tensor, step: int) -> Tensor:
    """(B, C, H, W) -> (B * step * step, C, H / step, W / step), channels last in memory."""
    batch, channels, height, width = values_BCHW.shape
    cells = (batch, height // step, step, width // step, step, channels)
    parts = values_BCHW.permute(0, 2, 3, 1).reshape(cells).permute(0, 2, 4, 1, 3, 5)
    return parts.reshape(-1, height // step, width // step, channels).permute(0, 3, 1, 2)


def _join(values_BCHW: Tensor, step: int) -> Tensor:
    """What `_part` did, undone."""
    _, channels, height, width = values_BCHW.shape
    cells = (-1, step, step, height, width, channels)
    whole = values_BCHW.permute(0, 2, 3, 1).reshape(cells).permute(0, 3, 1, 4, 2, 5)
    return whole.reshape(-1, height * step, width * step, channels).permute(0, 3, 1, 2)
