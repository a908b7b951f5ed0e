"""Dilation in place of stride: finer features from the same weights (Chen et al. 2017, arXiv:1706.05587)."""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.functional import max_pool2d, pad

_Pool = (nn.MaxPool2d, nn.AvgPool2d)


def can_dilate(block: nn.Module) -> bool:
    """Whether the block's stride, if it has one, is that of a convolution or pooling."""
    return any(_strided(layer) for layer in block.modules())


def dilate(
    blocks: nn.ModuleDict, strides: Mapping[str, int], output_stride: int, *, dilate_strided: bool
) -> None:
    """Changes `blocks` in place so that none goes beyond `output_stride`.

    `strides` are the cumulative strides behind each block as they are. A layer that loses its stride
    keeps the dilation that came before it, and those after it grow by the factor it no longer skips: that is
    the exact equivalent, and what torchvision does in its ResNets. With `dilate_strided` it takes the grown
    dilation itself, which is how torchvision trained its MobileNetV3.
    """
    dilation, stride = 1, 1
    for name in blocks:
        beyond = strides[name] > output_stride
        grown = dilation * (strides[name] // stride) if beyond else dilation
        if grown > 1:
            _dilate_block(blocks, name, dilation, grown, dilate_strided=dilate_strided)
        dilation, stride = grown, strides[name]


def _dilate_block(
    blocks: nn.ModuleDict, block: str, before: int, after: int, *, dilate_strided: bool
) -> None:
    passed = False
    for path, layer in list(blocks[block].named_modules(prefix=block)):
        strided = _strided(layer)
        passed = passed or strided
        # Branches may each have a stride of their own, a shortcut's before or after the others'.
        dilation = before if not passed or (strided and not dilate_strided) else after
        if isinstance(layer, nn.Conv2d):
            blocks.set_submodule(path, _dilated(layer, dilation, strided))
        elif strided and isinstance(layer, _Pool):
            blocks.set_submodule(path, _DensePool(layer, dilation))


def _strided(layer: nn.Module) -> bool:
    if not isinstance(layer, (nn.Conv2d, *_Pool)):
        return False
    stride = layer.stride
    return (stride if isinstance(stride, int) else max(stride)) > 1


def _dilated(convolution: nn.Conv2d, dilation: int, strided: bool) -> nn.Conv2d:
    height, width = convolution.kernel_size
    if height == width == 1:  # nothing to dilate: asked to all the same, oneDNN takes up to 40 times as long
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
    """A convolution whose even kernel starts at its place, as it does with a stride, instead of around it."""

    def __init__(self, like: nn.Conv2d) -> None:
        super().__init__(
            like.in_channels, like.out_channels, 1, groups=like.groups, bias=like.bias is not None
        )
        self.kernel_size = like.kernel_size
        self.weight, self.bias = like.weight, like.bias

    def forward(self, values_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> the same height and width."""
        return super().forward(pad(values_BCHW, _overhang(self.kernel_size[0], self.dilation[0])))


class _DensePool(nn.Module):
    """A pooling without its stride: each place sees the cells that the strided one would, were it one of its own."""

    def __init__(self, like: nn.MaxPool2d | nn.AvgPool2d, dilation: int) -> None:
        super().__init__()
        self._largest = isinstance(like, nn.MaxPool2d)
        self._kernel = like.kernel_size if isinstance(like.kernel_size, int) else like.kernel_size[0]
        self._dilation = dilation

    def forward(self, values_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape; beyond the edge the last cell is repeated."""
        height, width = values_BCHW.shape[-2:]
        padded = pad(values_BCHW, _overhang(self._kernel, self._dilation), mode="replicate")
        if self._largest:
            return max_pool2d(padded, self._kernel, stride=1, dilation=self._dilation)
        reach = range(0, self._kernel * self._dilation, self._dilation)
        seen = [padded[..., top : top + height, left : left + width] for top in reach for left in reach]
        return sum(seen[1:], start=seen[0]) / len(seen)


def _overhang(kernel: int, dilation: int) -> tuple[int, int, int, int]:
    reach = dilation * (kernel - 1)
    return (0, reach, 0, reach)
