"""Heads: feature maps by nominal stride -> logits.

Each is built from `channels` and `strides`, which say for each nominal stride how many channels its feature map has and
at what stride it really comes, and `outputs`, the number of logits. The keys of DeepLabV3, FCN and LR-ASPP are those of
torchvision, so that its weights fit.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, interpolate


def resize(values_BKHW: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, corners not aligned: the only way in which logits and features are resized here, to (H, W)."""
    if values_BKHW.shape[-2:] == size:
        return values_BKHW
    return interpolate(values_BKHW, size=size, mode="bilinear", align_corners=False)


def norm_relu(convolution: nn.Module, width: int) -> tuple[nn.Module, nn.BatchNorm2d, nn.ReLU]:
    """A convolution with `width` output channels, followed by batch norm and ReLU."""
    return convolution, nn.BatchNorm2d(width), nn.ReLU()


def atrous(channels: int, width: int, rate: int) -> nn.Conv2d:
    """A 3x3 convolution with dilation `rate` that keeps the size."""
    return nn.Conv2d(channels, width, 3, padding=rate, dilation=rate, bias=False)


def separable(channels: int, width: int, rate: int = 1) -> nn.Sequential:
    """The same as a depthwise and a pointwise convolution (Chollet 2017, arXiv:1610.02357)."""
    depthwise = nn.Conv2d(channels, channels, 3, padding=rate, dilation=rate, groups=channels, bias=False)
    return nn.Sequential(depthwise, nn.Conv2d(channels, width, 1, bias=False))


_ASPP_WIDTH = 256  # channels of every branch of the pyramid, as in the paper
_ASPP_REACH = (96, 192, 288)  # pixels that the paper's rates reach: 6, 12, 18 at output stride 16


def rates_for(stride: int, rates: list[int] | None) -> list[int]:
    """The dilations of the three atrous branches, in cells of a feature map of that stride.

    None gives the paper's: 6, 12, 18 at stride 16, doubled at 8, halved at 32.
    """
    return [reach // stride for reach in _ASPP_REACH] if rates is None else rates


class AtrousPyramid(nn.Module):
    """Atrous spatial pyramid pooling (Chen et al. 2017, arXiv:1706.05587): context at several scales.

    The branches are a 1x1 convolution, three dilated 3x3 convolutions made by `convolution(channels, width, rate)`, and
    the mean over the image.
    """

    def __init__(
        self, channels: int, rates: list[int], convolution: Callable[[int, int, int], nn.Module] = atrous
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [
                nn.Sequential(*norm_relu(nn.Conv2d(channels, _ASPP_WIDTH, 1, bias=False), _ASPP_WIDTH)),
                *(
                    nn.Sequential(*norm_relu(convolution(channels, _ASPP_WIDTH, rate), _ASPP_WIDTH))
                    for rate in rates
                ),
                ImagePooling(channels),
            ]
        )
        projection = nn.Conv2d(len(self.convs) * _ASPP_WIDTH, _ASPP_WIDTH, 1, bias=False)
        self.project = nn.Sequential(*norm_relu(projection, _ASPP_WIDTH), nn.Dropout(0.5))

    def forward(self, values_BCHW: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 256, h, w)."""
        branches = torch.cat([branch(values_BCHW) for branch in self.convs], dim=1)
        projected: Tensor = self.project(branches)
        return projected


class ImagePooling(nn.Sequential):
    """The mean over the image, passed through a 1x1 convolution and copied to every cell."""

    def __init__(self, channels: int) -> None:
        convolution = nn.Conv2d(channels, _ASPP_WIDTH, 1, bias=False)
        super().__init__(nn.AdaptiveAvgPool2d(1), convolution, PooledBatchNorm(_ASPP_WIDTH), nn.ReLU())

    def forward(self, values_BCHW: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 256, h, w), the same in every cell."""
        pooled_BC11: Tensor = super().forward(values_BCHW)
        expanded_BCHW = pooled_BC11.expand(-1, -1, *values_BCHW.shape[-2:])
        # An expanded view has strides of 0, and `torch.cat` would return all branches in the default memory format.
        channels_last = values_BCHW.is_contiguous(memory_format=torch.channels_last)
        return expanded_BCHW.contiguous(memory_format=torch.channels_last) if channels_last else expanded_BCHW


class PooledBatchNorm(nn.BatchNorm2d):
    """A batch norm that accepts a batch of one pooled image in training.

    One value per channel has no variance, so torch raises an error, and an epoch whose last batch is a single image
    would fail. Such a batch is normalised by the running statistics, as in evaluation.
    """

    def forward(self, values_BCHW: Tensor) -> Tensor:
        """(B, C, 1, 1) -> the same shape."""
        if self.training and values_BCHW.shape[0] == 1:
            return batch_norm(
                values_BCHW, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(values_BCHW)


class DeepLabV3Head(nn.Sequential):
    """DeepLabV3 (Chen et al. 2017, arXiv:1706.05587): pyramid, convolution and classifier on the stride-32 features.

    `rates` as in `rates_for`.
    """

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
            *norm_relu(nn.Conv2d(_ASPP_WIDTH, _ASPP_WIDTH, 3, padding=1, bias=False), _ASPP_WIDTH),
            nn.Conv2d(_ASPP_WIDTH, outputs, 1),
        )

    def forward(self, features: dict[int, Tensor]) -> Tensor:
        """Feature maps by nominal stride -> logits (B, K, h, w) at the stride of the last one."""
        logits: Tensor = super().forward(features[32])
        return logits


_DETAIL_WIDTH = 48  # of the stride-4 features: few, so that the pyramid dominates (table 1 of the paper)


class DeepLabV3PlusHead(nn.Module):
    """DeepLabV3+ (Chen et al. 2018, arXiv:1802.02611): a decoder joins the pyramid with the stride-4 features.

    Its convolutions are separable; `rates` as in `rates_for`.
    """

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
        self.detail = nn.Sequential(
            *norm_relu(nn.Conv2d(channels[4], _DETAIL_WIDTH, 1, bias=False), _DETAIL_WIDTH)
        )
        self.decoder = nn.Sequential(
            *norm_relu(separable(_ASPP_WIDTH + _DETAIL_WIDTH, _ASPP_WIDTH), _ASPP_WIDTH),
            *norm_relu(separable(_ASPP_WIDTH, _ASPP_WIDTH), _ASPP_WIDTH),
            nn.Dropout(0.1),
            nn.Conv2d(_ASPP_WIDTH, outputs, 1),
        )

    def forward(self, features: dict[int, Tensor]) -> Tensor:
        """Feature maps by nominal stride -> logits (B, K, h, w) at stride 4."""
        detail_BCHW = self.detail(features[4])
        height, width = detail_BCHW.shape[-2:]
        context_BCHW = resize(self.pyramid(features[32]), (height, width))
        logits: Tensor = self.decoder(torch.cat([context_BCHW, detail_BCHW], dim=1))
        return logits


class FCNHead(nn.Sequential):
    """The fully convolutional head (Long et al. 2015, arXiv:1411.4038): two convolutions on one feature map.

    `stride` is its nominal stride: 32 for the main head, 16 for the auxiliary one.
    """

    def __init__(
        self, stride: int = 32, *, channels: dict[int, int], strides: dict[int, int], outputs: int
    ) -> None:
        inner = channels[stride] // 4
        super().__init__(
            *norm_relu(nn.Conv2d(channels[stride], inner, 3, padding=1, bias=False), inner),
            nn.Dropout(0.1),
            nn.Conv2d(inner, outputs, 1),
        )
        self._stride = stride

    def forward(self, features: dict[int, Tensor]) -> Tensor:
        """Feature maps by nominal stride -> logits (B, K, h, w) at the stride of the one it uses."""
        logits: Tensor = super().forward(features[self._stride])
        return logits


_FPN_WIDTH = 256  # channels of the pyramid levels, as in the paper
_FPN_BRANCH_WIDTH = 128  # channels of the branches that are summed


class FPNHead(nn.Module):
    """Semantic branch of a feature pyramid network (Kirillov et al. 2019, arXiv:1901.02446, figure 3).

    Coarse features are added to finer ones; then all levels are upsampled to stride 4 and summed.
    """

    def __init__(self, *, channels: dict[int, int], strides: dict[int, int], outputs: int) -> None:
        super().__init__()
        self._strides = strides
        self.laterals = nn.ModuleDict(
            {str(level): nn.Conv2d(channels[level], _FPN_WIDTH, 1) for level in strides}
        )
        self.branches = nn.ModuleDict(
            {str(level): _branch(len(_finer_strides(stride, strides))) for level, stride in strides.items()}
        )
        self.classifier = nn.Sequential(nn.Dropout(0.1), nn.Conv2d(_FPN_BRANCH_WIDTH, outputs, 1))

    def forward(self, features: dict[int, Tensor]) -> Tensor:
        """Feature maps by nominal stride -> logits (B, K, h, w) at stride 4."""
        level_BCHW: Tensor | None = None
        total_BCHW: Tensor | None = None
        for nominal in sorted(features, reverse=True):
            lateral_BCHW = self.laterals[str(nominal)](features[nominal])
            level_BCHW = (
                lateral_BCHW if level_BCHW is None else lateral_BCHW + _like(level_BCHW, lateral_BCHW)
            )
            branch_BCHW = self._upsample(nominal, level_BCHW, features)
            total_BCHW = branch_BCHW if total_BCHW is None else total_BCHW + branch_BCHW
        logits: Tensor = self.classifier(total_BCHW)
        return logits

    def _upsample(self, nominal: int, values_BCHW: Tensor, features: dict[int, Tensor]) -> Tensor:
        """A convolution before each doubling, to stride 4; one convolution if it is at stride 4 already."""
        by_stride = {self._strides[level]: values for level, values in features.items()}
        path = _finer_strides(self._strides[nominal], self._strides)
        for step, stride in zip(self.branches[str(nominal)].children(), path, strict=True):
            values_BCHW = _like(step(values_BCHW), by_stride[stride])
        return values_BCHW


def _finer_strides(start: int, strides: dict[int, int]) -> list[int]:
    """The strides that a level of stride `start` passes on its way to stride 4, the finest last."""
    finer = [stride for stride in sorted(set(strides.values())) if stride < start]
    return finer[::-1] or [start]


def _branch(steps: int) -> nn.Sequential:
    widths = [_FPN_WIDTH] + [_FPN_BRANCH_WIDTH] * (steps - 1)
    return nn.Sequential(
        *(
            nn.Sequential(
                *norm_relu(nn.Conv2d(width, _FPN_BRANCH_WIDTH, 3, padding=1, bias=False), _FPN_BRANCH_WIDTH)
            )
            for width in widths
        )
    )


def _like(values_BCHW: Tensor, other_BCHW: Tensor) -> Tensor:
    height, width = other_BCHW.shape[-2:]
    return resize(values_BCHW, (height, width))


_LRASPP_WIDTH = 128


class LRASPPHead(nn.Module):
    """Lite R-ASPP, for phones (Howard et al. 2019, arXiv:1905.02244, section 6.4).

    The coarse features, weighted by their mean over the image, and those of stride 8 are classified and summed.
    """

    def __init__(self, *, channels: dict[int, int], strides: dict[int, int], outputs: int) -> None:
        super().__init__()
        coarse, fine = channels[32], channels[8]
        self.cbr = nn.Sequential(*norm_relu(nn.Conv2d(coarse, _LRASPP_WIDTH, 1, bias=False), _LRASPP_WIDTH))
        self.scale = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(coarse, _LRASPP_WIDTH, 1, bias=False), nn.Sigmoid()
        )
        self.low_classifier = nn.Conv2d(fine, outputs, 1)
        self.high_classifier = nn.Conv2d(_LRASPP_WIDTH, outputs, 1)

    def forward(self, features: dict[int, Tensor]) -> Tensor:
        """Feature maps by nominal stride -> logits (B, K, h, w) at stride 8."""
        coarse_BCHW, fine_BCHW = features[32], features[8]
        weighted_BCHW = self.cbr(coarse_BCHW) * self.scale(coarse_BCHW)
        height, width = fine_BCHW.shape[-2:]
        weighted_BCHW = resize(weighted_BCHW, (height, width))
        logits: Tensor = self.low_classifier(fine_BCHW) + self.high_classifier(weighted_BCHW)
        return logits


_UNET_WIDTHS = {16: 256, 8: 128, 4: 64, 2: 32}  # of the decoder behind each stride, half of the paper's


class UNetHead(nn.Module):
    """U-Net's decoder (Ronneberger et al. 2015, arXiv:1505.04597) on any backbone: from coarse to fine, step by step.

    Each step enlarges what there is to the next finer feature map, joins the two, and has two 3x3 convolutions with
    batch norm, which the paper did not have. The finest is that of stride 2, where the backbone has one.
    """

    stride_2 = True
    """Whether the backbone is to give that feature map as well."""

    def __init__(self, *, channels: dict[int, int], strides: dict[int, int], outputs: int) -> None:
        super().__init__()
        self._levels = sorted(channels, reverse=True)
        width, steps = channels[self._levels[0]], {}
        for level in self._levels[1:]:
            own = _UNET_WIDTHS[level]
            first = nn.Conv2d(width + channels[level], own, 3, padding=1, bias=False)
            second = nn.Conv2d(own, own, 3, padding=1, bias=False)
            steps[str(level)] = nn.Sequential(*norm_relu(first, own), *norm_relu(second, own))
            width = own
        self.steps = nn.ModuleDict(steps)
        self.classifier = nn.Conv2d(width, outputs, 1)

    def forward(self, features: dict[int, Tensor]) -> Tensor:
        """Feature maps by nominal stride -> logits (B, K, h, w) at the stride of the finest."""
        values_BCHW = features[self._levels[0]]
        for level, step in zip(self._levels[1:], self.steps.values(), strict=True):
            values_BCHW = step(torch.cat([_like(values_BCHW, features[level]), features[level]], dim=1))
        logits: Tensor = self.classifier(values_BCHW)
        return logits


_UPERNET_WIDTH = 256  # of every level; the paper has 512
# Cells per side of the grids in which the coarsest features are pooled, as in the paper.
_UPERNET_BINS = (1, 2, 3, 6)


class UPerNetHead(nn.Module):
    """UPerNet (Xiao et al. 2018, arXiv:1807.10221): pyramid pooling, then a feature pyramid of which all is joined.

    For large scenes, and for transformers, whose features come at stride 32.
    """

    def __init__(self, *, channels: dict[int, int], strides: dict[int, int], outputs: int) -> None:
        super().__init__()
        *finer, coarsest = sorted(strides)
        width = _UPERNET_WIDTH
        pooled = [
            (nn.Conv2d(channels[coarsest], width, 1, bias=False), PooledBatchNorm(width), nn.ReLU())
            for _ in _UPERNET_BINS
        ]
        self.pooled = nn.ModuleList([nn.Sequential(*layers) for layers in pooled])
        self.context = _smooth(channels[coarsest] + len(_UPERNET_BINS) * width, width)
        self.laterals = nn.ModuleDict(
            {
                str(level): nn.Sequential(*norm_relu(nn.Conv2d(channels[level], width, 1, bias=False), width))
                for level in finer
            }
        )
        self.smooth = nn.ModuleDict({str(level): _smooth(width, width) for level in finer})
        self.fuse = _smooth((len(finer) + 1) * width, width)
        self.classifier = nn.Sequential(nn.Dropout(0.1), nn.Conv2d(width, outputs, 1))

    def forward(self, features: dict[int, Tensor]) -> Tensor:
        """Feature maps by nominal stride -> logits (B, K, h, w) at stride 4."""
        *finer, coarsest = sorted(features)
        coarse_BCHW, finest_BCHW = features[coarsest], features[finer[0]]
        grids = [
            # Without `resize`, which compares the sizes: an exported model would refuse images of a grid's size.
            interpolate(
                layers(mean_of_cells(coarse_BCHW, bins)), size=coarse_BCHW.shape[-2:], mode="bilinear"
            )
            for bins, layers in zip(_UPERNET_BINS, self.pooled, strict=True)
        ]
        level_BCHW = self.context(torch.cat([coarse_BCHW, *grids], dim=1))
        levels = [_like(level_BCHW, finest_BCHW)]
        for level in reversed(finer):
            lateral_BCHW = self.laterals[str(level)](features[level])
            level_BCHW = lateral_BCHW + _like(level_BCHW, lateral_BCHW)
            levels.append(_like(self.smooth[str(level)](level_BCHW), finest_BCHW))
        logits: Tensor = self.classifier(self.fuse(torch.cat(levels, dim=1)))
        return logits


def _smooth(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(*norm_relu(nn.Conv2d(channels, width, 3, padding=1, bias=False), width))


def mean_of_cells(values_BCHW: Tensor, bins: int) -> Tensor:
    """The means over a grid of `bins` x `bins` cells, (B, C, bins, bins), as `nn.AdaptiveAvgPool2d` divides them.

    That operation has no ONNX form for images of any size; two products with matrices have.
    """
    rows_IH, columns_JW = (_cells(bins, values_BCHW.shape[axis], values_BCHW) for axis in (2, 3))
    return rows_IH @ values_BCHW @ columns_JW.T


def _cells(bins: int, length: int, like: Tensor) -> Tensor:
    """(bins, length): the share of each of `length` places in the mean of each cell; cells overlap by what is left."""
    places = torch.arange(length, device=like.device)
    numbers = torch.arange(bins, device=like.device)[:, None]
    inside = (places >= numbers * length // bins) & (places < ((numbers + 1) * length + bins - 1) // bins)
    return (inside / inside.sum(1, keepdim=True)).to(like.dtype)


HEADS: Mapping[str, type[nn.Module]] = {
    "deeplabv3": DeepLabV3Head,
    "deeplabv3plus": DeepLabV3PlusHead,
    "fpn": FPNHead,
    "unet": UNetHead,
    "upernet": UPerNetHead,
    "lraspp": LRASPPHead,
    "fcn": FCNHead,
}
