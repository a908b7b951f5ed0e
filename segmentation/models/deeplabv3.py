"""DeepLabV3's head: atrous spatial pyramid pooling (Chen et al. 2017, arXiv:1706.05587).

The modules are laid out so that torchvision's weights fit key by key.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from segmentation.errors import UserError

_WIDTH = 256  # channels of every branch, as in the paper
_CELLS = (96, 192, 288)  # pixels that the paper's rates reach: 6, 12, 18 at output stride 16


class DeepLabV3Head(nn.Sequential):
    """Pyramid, convolution, classifier on the features of nominal stride 32.

    `rates` are the dilations of the three atrous branches in cells of that feature map; None takes the
    paper's for its true stride: 6, 12, 18 at 16, doubled at 8, halved at 32.

    Raises `UserError` for rates that are not three positive numbers.
    """

    def __init__(
        self,
        *,
        channels: dict[int, int],
        strides: dict[int, int],
        outputs: int,
        rates: list[int] | None = None,
    ) -> None:
        rates = [reach // strides[32] for reach in _CELLS] if rates is None else rates
        if len(rates) != 3 or min(rates) < 1 or max(rates) > 256:
            raise UserError(
                f"head.rates={rates}: give three numbers from 1 to 256 such as [6,12,18], or null."
            )
        super().__init__(
            AtrousPyramid(channels[32], rates),
            *_normalised(nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1, bias=False)),
            nn.Conv2d(_WIDTH, outputs, 1),
        )

    def forward(self, features: dict[int, Tensor]) -> Tensor:
        """Feature maps by nominal stride -> logits (B, K, h, w) at the stride of the last one."""
        logits: Tensor = super().forward(features[32])
        return logits


class AtrousPyramid(nn.Module):
    """Branches that look at one place at several scales: 1x1, three dilated 3x3, and the whole image."""

    def __init__(self, channels: int, rates: list[int]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [
                nn.Sequential(*_normalised(nn.Conv2d(channels, _WIDTH, 1, bias=False))),
                *(nn.Sequential(*_normalised(_atrous(channels, rate))) for rate in rates),
                ImagePooling(channels),
            ]
        )
        mix = nn.Conv2d(len(self.convs) * _WIDTH, _WIDTH, 1, bias=False)
        self.project = nn.Sequential(*_normalised(mix), nn.Dropout(0.5))

    def forward(self, values_BCHW: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 256, h, w)."""
        branches = torch.cat([branch(values_BCHW) for branch in self.convs], dim=1)
        mixed: Tensor = self.project(branches)
        return mixed


class ImagePooling(nn.Sequential):
    """What the image as a whole says, told to every place."""

    def __init__(self, channels: int) -> None:
        convolution = nn.Conv2d(channels, _WIDTH, 1, bias=False)
        super().__init__(nn.AdaptiveAvgPool2d(1), convolution, PooledBatchNorm(_WIDTH), nn.ReLU())

    def forward(self, values_BCHW: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 256, h, w), the same in every cell."""
        pooled: Tensor = super().forward(values_BCHW)
        return pooled.expand(-1, -1, *values_BCHW.shape[-2:])


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


def _atrous(channels: int, rate: int) -> nn.Conv2d:
    return nn.Conv2d(channels, _WIDTH, 3, padding=rate, dilation=rate, bias=False)


def _normalised(convolution: nn.Conv2d) -> tuple[nn.Module, ...]:
    return convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU()
