"""Convolutions that keep their weights in the form in which they are computed."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from segmentation.models.convolutions import CONVOLUTIONS
from segmentation.models.convolutions.atrous import AtrousConv2d, find_tiling
from segmentation.models.convolutions.base import Substitute, computes_bf16, is_hooked
from segmentation.models.convolutions.filtering import convolve, transform

_CELL = (1, 1)


def pack(model: nn.Module, dtype: torch.dtype) -> None:
    """Makes the float32 convolutions of a model on a processor `PackedConv2d` that compute in `dtype`, in place.

    Does nothing where oneDNN, which has the kernels, is not there or does not compute in `dtype` on this processor.
    """
    if not _is_supported(dtype):
        return
    for path, layer in list(model.named_modules()):
        if (
            isinstance(layer, nn.Conv2d)
            and type(layer) in CONVOLUTIONS
            and layer.weight.dtype == torch.float32
            and layer.padding_mode == "zeros"
            and not isinstance(layer.padding, str)
            and not is_hooked(layer)
        ):
            model.set_submodule(path, PackedConv2d(layer, dtype))


def is_packed(model: nn.Module) -> bool:
    """Whether only `PackedConv2d` have weights, so that autocast, which asks at each step, has nothing left to do."""
    weighing = [layer for layer in model.modules() if any(True for _ in layer.parameters(recurse=False))]
    return all(isinstance(layer, PackedConv2d) for layer in weighing)


class PackedConv2d(Substitute):
    """A convolution that keeps its weights as the last values needed them; inference only.

    In tiles, transformed; else in oneDNN's own order for their shape, in float32 or bfloat16. `nn.Conv2d` brings them
    into that order, and autocast into that precision, each time: for one small image a third of the time or more.
    A map of one cell goes by matrix products in float32, which begin sooner than oneDNN.
    """

    def __init__(self, like: nn.Conv2d, dtype: torch.dtype) -> None:
        super().__init__(like)
        self._dtype = dtype
        self._tiled = type(like) is AtrousConv2d
        self._is_linear = self.groups == 1 and self.kernel_size == (1, 1) and self.padding == (0, 0)
        self._kept: tuple[object, Tensor] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without the kept weights: oneDNN's cannot be copied."""
        return {**self.__dict__, "_kept": None}

    def forward(self, values_BCHW: Tensor) -> Tensor:
        """As the convolution's own, in the precision of the weights that are kept; the bias stays float32."""
        if self._is_linear and values_BCHW.shape[2:] == _CELL:
            return self._answer_cells(values_BCHW.flatten(1).float())[..., None, None].to(self._dtype)
        values_BCHW = values_BCHW.to(self._dtype)
        tiling = find_tiling(self, values_BCHW) if self._tiled else None
        if tiling:
            weight = self._weight_for(tiling.side, lambda: transform(self.weight.detach(), tiling))
            return convolve(values_BCHW, weight, tiling, self.bias)
        # The operators that torch.compile puts in the place of convolutions; they have no public name.
        ops, shape = torch.ops.mkldnn, values_BCHW.shape
        options = self.padding, self.stride, self.dilation, self.groups
        weight = self._weight_for(
            shape,
            lambda: ops._reorder_convolution_weight(self.weight.detach().to(self._dtype), *options, shape),
        )
        found: Tensor = ops._convolution_pointwise(values_BCHW, weight, self.bias, *options, "none", [], "")
        return found

    def _answer_cells(self, values_BC: Tensor) -> Tensor:
        # One by one, because a product of several is rounded otherwise: an image's answer must not hang on its batch.
        weight = self.weight.flatten(1)
        return torch.stack([linear(values_C, weight, self.bias) for values_C in values_BC])

    def _weight_for(self, purpose: object, make: Callable[[], Tensor]) -> Tensor:
        kept = self._kept
        if kept is None or kept[0] != purpose:
            kept = self._kept = purpose, make()
        return kept[1]


def _is_supported(dtype: torch.dtype) -> bool:
    if dtype == torch.bfloat16:
        return computes_bf16()
    return dtype == torch.float32 and torch.backends.mkldnn.is_available()
