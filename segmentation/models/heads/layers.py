"""What heads are made of."""

from torch import nn


def normalised(convolution: nn.Module, width: int) -> tuple[nn.Module, nn.BatchNorm2d, nn.ReLU]:
    """A convolution of `width` outputs, its batch norm and its activation."""
    return convolution, nn.BatchNorm2d(width), nn.ReLU()


def atrous(channels: int, width: int, rate: int) -> nn.Conv2d:
    """A 3x3 convolution whose taps lie `rate` cells apart; the size stays."""
    return nn.Conv2d(channels, width, 3, padding=rate, dilation=rate, bias=False)


def separable(channels: int, width: int, rate: int = 1) -> nn.Sequential:
    """The same in two: each channel alone, then across channels (Chollet 2017, arXiv:1610.02357)."""
    depthwise = nn.Conv2d(channels, channels, 3, padding=rate, dilation=rate, groups=channels, bias=False)
    return nn.Sequential(depthwise, nn.Conv2d(channels, width, 1, bias=False))
