"""The interface of a backbone, shape inference on the meta device, and adaptation to the number of image channels."""

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from segmentation.errors import UserError

STRIDES = (4, 8, 16, 32)
"""The nominal strides of the feature maps: those of a classifier without dilation."""

OUTPUT_STRIDES = (8, 16, 32)
"""The strides that the last feature map can have."""


class Backbone(nn.Module):
    """Feature maps at four nominal strides.

    `channels` and `strides` give, for each nominal stride (4, 8, 16, 32), the number of channels of its feature map and
    its real stride, which dilation makes smaller.
    """

    channels: dict[int, int]
    strides: dict[int, int]

    @abstractmethod
    def forward(self, image_BCHW: Tensor) -> dict[int, Tensor]:
        """Normalised images (B, C, H, W) -> feature maps (B, c, h, w) by nominal stride."""

    def add_stride_2(self) -> None:
        """From now on gives the feature map of stride 2 as well, for a head that uses it, if there is one."""

    @abstractmethod
    def key(self, key: str) -> str:
        """The name in this backbone of the tensor that the classifier calls `key`."""

    @abstractmethod
    def blocks(self) -> tuple[str, ...]:
        """The names of the modules that hold the backbone's tensors; a classifier's other tensors only classify."""


def choose_stride(name: str, output_stride: int | None, possible: tuple[int, ...]) -> int:
    """`output_stride`; None is the usual 16 if possible, else the finest.

    Raises `UserError` unless it is one of the possible strides.
    """
    if output_stride is None:
        return 16 if 16 in possible else min(possible)
    if output_stride not in possible:
        able = ", ".join(map(str, possible))
        usual = choose_stride(name, None, possible)
        raise UserError(
            f"output_stride={output_stride} is not possible with {name}: it can do {able}."
            f" Give output_stride={usual}, or auto."
        )
    return output_stride


# Shape inference

_HEIGHT, _WIDTH = 256, 320  # different, so that the axes can be told apart


@dataclass(frozen=True)
class FeatureShape:
    """A feature map: image pixels per cell, channels, and which axis holds the channels."""

    stride: int
    channels: int
    channels_last: bool  # (B, H, W, C), as in transformers

    @classmethod
    def of(cls, values: Tensor) -> "FeatureShape":
        """The shape of a feature map of a `meta_image`."""
        channels_last = values.shape[1] * _WIDTH == values.shape[2] * _HEIGHT
        height, channels = (values.shape[1], values.shape[3]) if channels_last else values.shape[2:0:-1]
        return cls(_HEIGHT // height, channels, channels_last)


def meta_image(in_channels: int) -> Tensor:
    """An image (1, C, 256, 320) on the meta device: a shape without pixels."""
    return torch.empty(1, in_channels, _HEIGHT, _WIDTH, device="meta")


def run_on_meta(module: nn.Module, values: Tensor) -> Tensor | list[Tensor]:
    """`module(values)` on the meta device; its weights are not copied and its state does not change."""
    state: Iterable[tuple[str, Tensor]] = chain(module.named_parameters(), module.named_buffers())
    result: Tensor | list[Tensor] = functional_call(
        module, {name: value.to("meta") for name, value in state}, (values,)
    )
    return result


def infer_shapes(blocks: nn.ModuleDict, in_channels: int) -> dict[str, FeatureShape]:
    """The feature map behind each of the `blocks`, which are called one after another."""
    values, shapes = meta_image(in_channels), {}
    with _SkipShapeless():
        for name, block in blocks.items():
            output = run_on_meta(block, values)
            assert isinstance(output, Tensor)
            values = output
            shapes[name] = FeatureShape.of(values)
    return shapes


class _SkipShapeless(TorchFunctionMode):
    """Skips operations that do not change shapes: otherwise most of the time goes into batch norms."""

    _KEEP = frozenset(
        getattr(functional, name)
        for name in ("batch_norm", "layer_norm", "relu", "relu6", "silu", "hardswish", "hardsigmoid", "gelu")
    )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if func in self._KEEP else func(*args, **(kwargs or {}))


# Image channels


def set_in_channels(trunk: nn.Module, in_channels: int) -> None:
    """Changes the first convolution of `trunk`, in place, to take `in_channels`, with filters made from its own."""
    first = next(layer for layer in trunk.modules() if isinstance(layer, nn.Conv2d))
    if first.in_channels != in_channels:
        first.weight = nn.Parameter(adapt_filters(first.weight.detach(), in_channels))
        first.in_channels = in_channels


def adapt_filters(weight_OCHW: Tensor, in_channels: int) -> Tensor:
    """Weights (O, C, h, w) of a first convolution for images of `in_channels`, so that trained filters are kept.

    One channel gets the sum of the filters: a grey image gives the same result as its three equal channels did. More
    channels repeat them in order (of RGB: R, G, B, R, ...), scaled so that the output keeps its magnitude.
    """
    given = weight_OCHW.shape[1]
    if in_channels == 1:
        return weight_OCHW.sum(1, keepdim=True)
    return repeat_channels(weight_OCHW, in_channels, dim=1) * (given / in_channels)


def repeat_channels(values: Tensor, count: int, *, dim: int = 0) -> Tensor:
    """`count` entries along `dim`: the given ones, repeated in order."""
    return values.index_select(dim, torch.arange(count, device=values.device) % values.shape[dim])
