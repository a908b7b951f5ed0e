"""What convolutions that take another's place have in common."""

import torch
from torch import Tensor, nn


class Substitute(nn.Conv2d):
    """A convolution with the shape, the weights and the bias of another, under the same names."""

    def __init__(self, like: nn.Conv2d) -> None:
        # On the meta device, where filling weights that are not kept draws no random numbers.
        bias, groups = like.bias is not None, like.groups
        super().__init__(like.in_channels, like.out_channels, 1, groups=groups, bias=bias, device="meta")
        self.kernel_size, self.padding = like.kernel_size, like.padding
        self.stride, self.dilation = like.stride, like.dilation
        self.weight, self.bias = like.weight, like.bias


def keeps_size(layer: nn.Conv2d) -> bool:
    """Whether a square, odd kernel of stride 1 gives a map of the size that it gets, with zeros around."""
    side, rate = layer.kernel_size[0], layer.dilation[0]
    return (
        layer.kernel_size == (side, side)
        and side % 2 == 1
        and layer.dilation == (rate, rate)
        and layer.padding == (side // 2 * rate,) * 2
        and layer.stride == (1, 1)
        and layer.padding_mode == "zeros"
    )


def processor_dtype(values_BCHW: Tensor) -> torch.dtype | None:
    """In what a convolution of these values computes on a processor, which autocast may say; None elsewhere."""
    if type(values_BCHW) not in (Tensor, nn.Parameter):  # torch's fake ones have no values
        return None
    if values_BCHW.device.type != "cpu" or torch.compiler.is_compiling():
        return None
    if torch.is_autocast_enabled("cpu") and values_BCHW.dtype != torch.float64:
        return torch.get_autocast_dtype("cpu")
    return values_BCHW.dtype


def computes_bf16() -> bool:
    """Whether oneDNN is there and computes in bf16 on this processor."""
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def is_hooked(layer: nn.Module) -> bool:
    """Whether somebody watches or changes what goes through a layer."""
    return bool(
        layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks
    )
