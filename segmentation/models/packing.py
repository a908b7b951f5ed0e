"""Convolutions that keep their weights in the order in which oneDNN computes."""

from typing import Any

import torch
from torch import Tensor, nn

from segmentation.models.folding import CONVOLUTIONS, is_hooked


def pack(model: nn.Module) -> None:
    """Makes the float32 convolutions of a model on a processor `PackedConv2d`, in place."""
    for path, layer in list(model.named_modules()):
        if (
            isinstance(layer, nn.Conv2d)
            and type(layer) in CONVOLUTIONS
            and layer.weight.dtype == torch.float32
            and layer.padding_mode == "zeros"
            and not isinstance(layer.padding, str)
            and not is_hooked(layer)
        ):
            model.set_submodule(path, PackedConv2d(layer))


class PackedConv2d(nn.Conv2d):
    """A convolution that keeps its weights in oneDNN's own order for the shape that it saw last; inference only.

    `nn.Conv2d` brings them into that order each time, which for one small image takes a third of the time.
    """

    def __init__(self, like: nn.Conv2d) -> None:
        # On the meta device, where filling weights that are not kept draws no random numbers.
        bias, groups = like.bias is not None, like.groups
        super().__init__(like.in_channels, like.out_channels, 1, groups=groups, bias=bias, device="meta")
        self.kernel_size, self.padding = like.kernel_size, like.padding
        self.stride, self.dilation = like.stride, like.dilation
        self.weight, self.bias = like.weight, like.bias
        self._packed: tuple[torch.Size, Tensor] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without the packed weights, which cannot be copied."""
        return {**self.__dict__, "_packed": None}

    def forward(self, values_BCHW: Tensor) -> Tensor:
        """As the convolution's own."""
        # The operators that torch.compile puts in the place of convolutions; they have no public name.
        ops, shape = torch.ops.mkldnn, values_BCHW.shape
        options = self.padding, self.stride, self.dilation, self.groups
        kept = self._packed
        if kept is None or kept[0] != shape:
            kept = shape, ops._reorder_convolution_weight(self.weight.detach(), *options, shape)
            self._packed = kept
        found: Tensor = ops._convolution_pointwise(values_BCHW, kept[1], self.bias, *options, "none", [], "")
        return found
