"""Dilation instead of stride: finer features from the same weights (Chen et al. 2017, arXiv:1706.05587)."""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.functional import max_pool2d, pad

_Pool = (nn.MaxPool2d, nn.AvgPool2d)


def can_dilate(block: nn.Module) -> bool:
    """Whether the block has a strided convolution or pooling, which dilation can replace."""
    return any(_is_strided(layer) for layer in block.modules())


def dilate(
    blocks: nn.ModuleDict, strides: Mapping[str, int], output_stride: int, *, dilate_strided: bool
) -> None:
    """Changes `blocks` in place so that no stride is above `output_stride`.

    `strides` are the cumulative strides behind each block before the change. A layer that loses its stride keeps the
    dilation of the layers before it; the dilation of the layers after it grows by the lost factor. This is the exact
    equivalent, and what torchvision does in its ResNets. With `dilate_strided` the layer itself gets the larger
    dilation, which is how torchvision trained its MobileNetV3.
    """
    dilation, stride = 1, 1
    for name in blocks:
        too_coarse = strides[name] > output_stride
        after = dilation * (strides[name] // stride) if too_coarse else dilation
        if after > 1:
            _dilate_block(blocks, name, dilation, after, dilate_strided=dilate_strided)
        dilation, stride = after, strides[name]


def _dilate_block(
    blocks: nn.ModuleDict, block: str, before: int, after: int, *, dilate_strided: bool
) -> None:
    after_stride = False
    for path, layer in list(blocks[block].named_modules(prefix=block)):
        strided = _is_strided(layer)
        after_stride = after_stride or strided
        # Each branch may have a stride; a shortcut's comes before or after that of the other branch.
        dilation = before if not after_stride or (strided and not dilate_strided) else after
        if isinstance(layer, nn.Conv2d):
            blocks.set_submodule(path, _dilated(layer, dilation, strided))
        elif strided and isinstance(layer, _Pool):
            blocks.set_submodule(path, _DensePool(layer, dilation))


def _is_strided(layer: nn.Module) -> bool:
    if not isinstance(layer, (nn.Conv2d, *_Pool)):
        return False
    stride = layer.stride
    return (stride if isinstance(stride, int) else max(stride)) > 1


def _dilated(convolution: nn.Conv2d, dilation: int, strided: bool) -> nn.Conv2d:
    height, width = convolution.kernel_size
    if height == width == 1:  # nothing to dilate, and with a dilation oneDNN takes up to 40 times as long
        convolution.stride = (1, 1)
        return convolution
    if strided and height % 2 == 0:
        convolution = _AnchoredConv2d(convolution)
    else:
        convolution.padding = (dilation * (height - 1) // 2, dilation * (width - 1) // 2)
    convolution.stride = (1, 1)
    convolution.dilation = (dilation, dilation)
    return convolution


class _AnchoredConv2d(nn.Conv2d):
    """A convolution with an even kernel that starts at each cell, as with a stride, instead of around it."""

    def __init__(self, like: nn.Conv2d) -> None:
        super().__init__(
            like.in_channels, like.out_channels, 1, groups=like.groups, bias=like.bias is not None
        )
        self.kernel_size = like.kernel_size
        self.weight, self.bias = like.weight, like.bias

    def forward(self, values_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> the same height and width."""
        return super().forward(pad(values_BCHW, _margins(self.kernel_size[0], self.dilation[0])))


class _DensePool(nn.Module):
    """A pooling without its stride: each cell pools the cells that a strided pooling starting there would."""

    def __init__(self, like: nn.MaxPool2d | nn.AvgPool2d, dilation: int) -> None:
        super().__init__()
        self._largest = isinstance(like, nn.MaxPool2d)
        self._kernel = like.kernel_size if isinstance(like.kernel_size, int) else like.kernel_size[0]
        self._dilation = dilation

    def forward(self, values_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape; the last cell is repeated beyond the edge."""
        height, width = values_BCHW.shape[-2:]
        padded = pad(values_BCHW, _margins(self._kernel, self._dilation), mode="replicate")
        if self._largest:
            return max_pool2d(padded, self._kernel, stride=1, dilation=self._dilation)
        reach = range(0, self._kernel * self._dilation, self._dilation)
        shifted = [padded[..., top : top + height, left : left + width] for top in reach for left in reach]
        return sum(shifted[1:], start=shifted[0]) / len(shifted)


def _margins(kernel: int, dilation: int) -> tuple[int, int, int, int]:
    reach = dilation * (kernel - 1)
    return (0, reach, 0, reach)
