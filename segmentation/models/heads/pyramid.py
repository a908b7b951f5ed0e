"""Atrous spatial pyramid pooling (Chen et al. 2017, arXiv:1706.05587), laid out so that torchvision's weights fit."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from segmentation.errors import UserError
from segmentation.models.heads.layers import atrous, normalised

WIDTH = 256
"""Channels of every branch, as in the paper."""

_CELLS = (96, 192, 288)  # pixels that the paper's rates reach: 6, 12, 18 at output stride 16


def rates_for(stride: int, rates: list[int] | None) -> list[int]:
    """The dilations of the three atrous branches in cells of a feature map of that stride.

    None takes the paper's: 6, 12, 18 at stride 16, doubled at 8, halved at 32. Raises `UserError` for what is
    not three numbers of 1 to 256.
    """
    rates = [reach // stride for reach in _CELLS] if rates is None else rates
    if len(rates) != 3 or min(rates) < 1 or max(rates) > 256:
        raise UserError(f"head.rates={rates}: give three numbers from 1 to 256 such as [6,12,18], or null.")
    return rates


class AtrousPyramid(nn.Module):
    """Branches that look at one place at several scales: 1x1, three dilated 3x3, and the whole image.

    `convolution(channels, width, rate)` makes the dilated ones.
    """

    def __init__(
        self, channels: int, rates: list[int], convolution: Callable[[int, int, int], nn.Module] = atrous
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [
                nn.Sequential(*normalised(nn.Conv2d(channels, WIDTH, 1, bias=False), WIDTH)),
                *(nn.Sequential(*normalised(convolution(channels, WIDTH, rate), WIDTH)) for rate in rates),
                ImagePooling(channels),
            ]
        )
        mix = nn.Conv2d(len(self.convs) * WIDTH, WIDTH, 1, bias=False)
        self.project = nn.Sequential(*normalised(mix, WIDTH), nn.Dropout(0.5))

    def forward(self, values_BCHW: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 256, h, w)."""
        branches = torch.cat([branch(values_BCHW) for branch in self.convs], dim=1)
        mixed: Tensor = self.project(branches)
        return mixed


class ImagePooling(nn.Sequential):
    """What the image as a whole says, told to every place."""

    def __init__(self, channels: int) -> None:
        convolution = nn.Conv2d(channels, WIDTH, 1, bias=False)
        super().__init__(nn.AdaptiveAvgPool2d(1), convolution, PooledBatchNorm(WIDTH), nn.ReLU())

    def forward(self, values_BCHW: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 256, h, w), the same in every cell."""
        pooled: Tensor = super().forward(values_BCHW)
        whole = pooled.expand(-1, -1, *values_BCHW.shape[-2:])
        # Without strides of its own it would bring all that it is joined with into another order of memory.
        last = values_BCHW.is_contiguous(memory_format=torch.channels_last)
        return whole.contiguous(memory_format=torch.channels_last) if last else whole


class PooledBatchNorm(nn.BatchNorm2d):
    """A batch norm that a batch of one pooled image can train through.

    One value a channel has no variance: torch refuses it, and an epoch whose last batch is a single image
    would end there. Such a batch is normalised by the running statistics, as in evaluation.
    """

    def forward(self, values_BCHW: Tensor) -> Tensor:
        """(B, C, 1, 1) -> the same shape."""
        if self.training and values_BCHW.shape[0] == 1:
            return batch_norm(
                values_BCHW, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(values_BCHW)
