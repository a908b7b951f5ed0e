"""What heads are made of."""

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d


def normalised(convolution: nn.Module, width: int) -> tuple[nn.Module, nn.BatchNorm2d, nn.ReLU]:
    """A convolution of `width` outputs, its batch norm and its activation."""
    return convolution, nn.BatchNorm2d(width), nn.ReLU()


def atrous(channels: int, width: int, rate: int) -> nn.Conv2d:
    """A 3x3 convolution whose taps lie `rate` cells apart; the size stays."""
    return AtrousConv2d(channels, width, 3, padding=rate, dilation=rate, bias=False)


def separable(channels: int, width: int, rate: int = 1) -> nn.Sequential:
    """The same in two: each channel alone, then across channels (Chollet 2017, arXiv:1610.02357)."""
    depthwise = nn.Conv2d(channels, channels, 3, padding=rate, dilation=rate, groups=channels, bias=False)
    return nn.Sequential(depthwise, nn.Conv2d(channels, width, 1, bias=False))


class AtrousConv2d(nn.Conv2d):
    """A dilated 3x3 convolution that leaves out the taps which fall beside the map wherever they are put.

    They would add zeros. At a rate as large as the map, as for small images, the middle alone is left of each row.
    """

    def forward(self, values_BCHW: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, c, h, w)."""
        if torch.compiler.is_exporting():  # an exported file takes maps of any size
            return super().forward(values_BCHW)
        inside = [rate < side for rate, side in zip(self.dilation, values_BCHW.shape[-2:], strict=True)]
        rows, columns = (slice(0, 3) if all_three else slice(1, 2) for all_three in inside)
        padding = [rate * all_three for rate, all_three in zip(self.dilation, inside, strict=True)]
        weight = self.weight[:, :, rows, columns]
        return conv2d(values_BCHW, weight, self.bias, padding=padding, dilation=self.dilation)
