"""Dilation in place of stride: finer features from the same weights (Chen et al. 2017, arXiv:1706.05587)."""

from collections.abc import Mapping

from torch import nn


def dilate(
    blocks: nn.ModuleDict, strides: Mapping[str, int], output_stride: int, *, dilate_strided: bool
) -> None:
    """Changes `blocks` in place so that none goes beyond `output_stride`.

    `strides` are the cumulative strides behind each block as they are. A convolution that loses its stride
    keeps the dilation that came before it, and those after it grow by the factor it no longer skips: that is
    the exact equivalent, and what torchvision does in its ResNets. With `dilate_strided` it takes the grown
    dilation itself, which is how torchvision trained its MobileNetV3.
    """
    dilation, stride = 1, 1
    for name, block in blocks.items():
        beyond = strides[name] > output_stride
        grown = dilation * (strides[name] // stride) if beyond else dilation
        if grown > 1:
            _dilate_block(block, dilation, grown, dilate_strided=dilate_strided)
        dilation, stride = grown, strides[name]


def _dilate_block(block: nn.Module, before: int, after: int, *, dilate_strided: bool) -> None:
    dilation = before
    for convolution in block.modules():
        if not isinstance(convolution, nn.Conv2d):
            continue
        strided = max(convolution.stride) > 1
        if strided:
            convolution.stride = (1, 1)
        own = after if strided and dilate_strided else dilation
        if strided:
            dilation = after
        height, width = convolution.kernel_size
        if max(height, width) > 1:
            convolution.dilation = (own, own)
            convolution.padding = (own * (height - 1) // 2, own * (width - 1) // 2)
