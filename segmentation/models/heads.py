"""Heads: feature maps by nominal stride -> logits."""

from collections.abc import Callable, Mapping
from itertools import takewhile

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from segmentation.errors import UserError
from segmentation.functional import resize

# MERGED FROM models/heads/layers: What heads are made of.
# MERGED FROM models/heads/pyramid: Atrous spatial pyramid pooling (Chen et al. 2017, arXiv:1706.05587), laid out so
# MERGED FROM models/heads/deeplabv3: DeepLabV3 (Chen et al. 2017, arXiv:1706.05587); torchvision's weights fit key
# MERGED FROM models/heads/deeplabv3plus: DeepLabV3+ (Chen et al. 2018, arXiv:1802.02611): the pyramid, and a decode
# MERGED FROM models/heads/fcn: The fully convolutional head (Long et al. 2015, arXiv:1411.4038); torchvision's weig
# MERGED FROM models/heads/fpn: The semantic branch of a feature pyramid network (Kirillov et al. 2019, arXiv:1901.0
# MERGED FROM models/heads/lraspp: Lite R-ASPP (Howard et al. 2019, arXiv:1905.02244, section 6.4); torchvision's we


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


class DeepLabV3Head(nn.Sequential):
    """Pyramid, convolution, classifier on the features of nominal stride 32; `rates` as in `rates_for`."""

    def __init__(
        self,
        *,
        channels: dict[int, int],
        strides: dict[int, int],
        outputs: int,
        rates: list[int] | None = None,
    ) -> None:
        super().__init__(
            AtrousPyramid(channels[32], rates_for(strides[32], rates)),
            *normalised(nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False), WIDTH),
            nn.Conv2d(WIDTH, outputs, 1),
        )

    def forward(self, features: dict[int, Tensor]) -> Tensor:
        """Feature maps by nominal stride -> logits (B, K, h, w) at the stride of the last one."""
        logits: Tensor = super().forward(features[32])
        return logits


_DETAIL = 48  # channels of the fine features: few, lest they outweigh the pyramid (the paper's table 1)


class DeepLabV3PlusHead(nn.Module):
    """A pyramid of separable convolutions, joined with the stride-4 features; `rates` as in `rates_for`."""

    def __init__(
        self,
        *,
        channels: dict[int, int],
        strides: dict[int, int],
        outputs: int,
        rates: list[int] | None = None,
    ) -> None:
        super().__init__()
        self.pyramid = AtrousPyramid(channels[32], rates_for(strides[32], rates), separable)
        self.detail = nn.Sequential(*normalised(nn.Conv2d(channels[4], _DETAIL, 1, bias=False), _DETAIL))
        self.decoder = nn.Sequential(
            *normalised(separable(WIDTH + _DETAIL, WIDTH), WIDTH),
            *normalised(separable(WIDTH, WIDTH), WIDTH),
            nn.Dropout(0.1),
            nn.Conv2d(WIDTH, outputs, 1),
        )

    def forward(self, features: dict[int, Tensor]) -> Tensor:
        """Feature maps by nominal stride -> logits (B, K, h, w) at stride 4."""
        detail_BCHW = self.detail(features[4])
        height, width = detail_BCHW.shape[-2:]
        context_BCHW = resize(self.pyramid(features[32]), (height, width))
        logits: Tensor = self.decoder(torch.cat([context_BCHW, detail_BCHW], dim=1))
        return logits


class FCNHead(nn.Sequential):
    """Two convolutions on the features of one nominal stride: 32 for the main head, 16 for the auxiliary one."""

    def __init__(
        self, stride: int = 32, *, channels: dict[int, int], strides: dict[int, int], outputs: int
    ) -> None:
        inner = channels[stride] // 4
        super().__init__(
            *normalised(nn.Conv2d(channels[stride], inner, 3, padding=1, bias=False), inner),
            nn.Dropout(0.1),
            nn.Conv2d(inner, outputs, 1),
        )
        self._stride = stride

    def forward(self, features: dict[int, Tensor]) -> Tensor:
        """Feature maps by nominal stride -> logits (B, K, h, w) at the stride of the one it uses."""
        logits: Tensor = super().forward(features[self._stride])
        return logits


_PYRAMID = 256  # channels of the pyramid and of what is summed up, as in the paper
_BRANCH = 128


class FPNHead(nn.Module):
    """Coarse features are added to finer ones on the way down; then all levels are brought to stride 4 and summed."""

    def __init__(self, *, channels: dict[int, int], strides: dict[int, int], outputs: int) -> None:
        super().__init__()
        self._strides = strides
        self.laterals = nn.ModuleDict(
            {str(level): nn.Conv2d(channels[level], _PYRAMID, 1) for level in strides}
        )
        self.branches = nn.ModuleDict(
            {str(level): _branch(len(_way(stride, strides))) for level, stride in strides.items()}
        )
        self.classifier = nn.Sequential(nn.Dropout(0.1), nn.Conv2d(_BRANCH, outputs, 1))

    def forward(self, features: dict[int, Tensor]) -> Tensor:
        """Feature maps by nominal stride -> logits (B, K, h, w) at stride 4."""
        level_BCHW: Tensor | None = None
        total_BCHW: Tensor | None = None
        for nominal in sorted(features, reverse=True):
            lateral_BCHW = self.laterals[str(nominal)](features[nominal])
            level_BCHW = (
                lateral_BCHW if level_BCHW is None else lateral_BCHW + _like(level_BCHW, lateral_BCHW)
            )
            branch_BCHW = self._bring_down(nominal, level_BCHW, features)
            total_BCHW = branch_BCHW if total_BCHW is None else total_BCHW + branch_BCHW
        logits: Tensor = self.classifier(total_BCHW)
        return logits

    def _bring_down(self, nominal: int, values_BCHW: Tensor, features: dict[int, Tensor]) -> Tensor:
        """A convolution before each doubling, down to stride 4; one at stride 4 itself."""
        by_stride = {self._strides[level]: values for level, values in features.items()}
        way = _way(self._strides[nominal], self._strides)
        for step, stride in zip(self.branches[str(nominal)].children(), way, strict=True):
            values_BCHW = _like(step(values_BCHW), by_stride[stride])
        return values_BCHW


def _way(start: int, strides: dict[int, int]) -> list[int]:
    """The strides that a level of stride `start` passes: the finer ones, the finest last."""
    finer = list(takewhile(lambda stride: stride < start, sorted(set(strides.values()))))
    return finer[::-1] or [start]


def _branch(steps: int) -> nn.Sequential:
    widths = [_PYRAMID] + [_BRANCH] * (steps - 1)
    return nn.Sequential(
        *(
            nn.Sequential(*normalised(nn.Conv2d(width, _BRANCH, 3, padding=1, bias=False), _BRANCH))
            for width in widths
        )
    )


def _like(values_BCHW: Tensor, other_BCHW: Tensor) -> Tensor:
    height, width = other_BCHW.shape[-2:]
    return resize(values_BCHW, (height, width))


_WIDTH = 128


class LRASPPHead(nn.Module):
    """For phones: the coarse features, weighed by what the whole image says, beside those of stride 8."""

    def __init__(self, *, channels: dict[int, int], strides: dict[int, int], outputs: int) -> None:
        super().__init__()
        coarse, fine = channels[32], channels[8]
        self.cbr = nn.Sequential(*normalised(nn.Conv2d(coarse, _WIDTH, 1, bias=False), _WIDTH))
        self.scale = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(coarse, _WIDTH, 1, bias=False), nn.Sigmoid()
        )
        self.low_classifier = nn.Conv2d(fine, outputs, 1)
        self.high_classifier = nn.Conv2d(_WIDTH, outputs, 1)

    def forward(self, features: dict[int, Tensor]) -> Tensor:
        """Feature maps by nominal stride -> logits (B, K, h, w) at stride 8."""
        coarse_BCHW, fine_BCHW = features[32], features[8]
        weighed_BCHW = self.cbr(coarse_BCHW) * self.scale(coarse_BCHW)
        height, width = fine_BCHW.shape[-2:]
        weighed_BCHW = resize(weighed_BCHW, (height, width))
        logits: Tensor = self.low_classifier(fine_BCHW) + self.high_classifier(weighed_BCHW)
        return logits


__all__ = ["HEADS", "FCNHead"]

HEADS: Mapping[str, type[nn.Module]] = {
    "deeplabv3": DeepLabV3Head,
    "deeplabv3plus": DeepLabV3PlusHead,
    "fpn": FPNHead,
    "lraspp": LRASPPHead,
    "fcn": FCNHead,
}
