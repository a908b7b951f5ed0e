"""What heads and weights know of a backbone."""

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

# MERGED FROM models/backbones/measure: What a module does to shapes, computed on the meta device: no pixel is touch
# MERGED FROM models/channels: Weights made for three channels, on images of another number of them.

STRIDES = (4, 8, 16, 32)
"""The nominal strides: those that the trunk of a classifier has before any dilation."""

OUTPUT_STRIDES = (8, 16, 32)
"""The strides at which the last feature map may come."""


class Backbone(nn.Module):
    """Feature maps at four nominal strides.

    `channels` and `strides` say for each nominal stride (4, 8, 16, 32) how many channels its feature map has,
    and at what stride it really comes, which dilation makes smaller.
    """

    channels: dict[int, int]
    strides: dict[int, int]

    @abstractmethod
    def forward(self, image_BCHW: Tensor) -> dict[int, Tensor]:
        """Normalised images (B, C, H, W) -> feature maps (B, c, h, w) by nominal stride."""

    @abstractmethod
    def key(self, key: str) -> str:
        """The name here of a tensor that the whole classifier calls `key`."""

    @abstractmethod
    def blocks(self) -> tuple[str, ...]:
        """The modules that tensors of a trunk belong to; a classifier's other tensors only classify."""


def choose_stride(name: str, output_stride: int | None, possible: tuple[int, ...]) -> int:
    """`output_stride`; for None the usual 16 where it is possible, else the finest.

    Raises `UserError` where it is not among the possible ones.
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


# Different, so that the axes can be told apart.
_HEIGHT, _WIDTH = 256, 320


@dataclass(frozen=True)
class Measure:
    """A feature map: the image's pixels to one of its cells, and where it keeps its channels."""

    stride: int
    channels: int
    channels_last: bool  # (B, H, W, C), as transformers have it

    @classmethod
    def of(cls, values: Tensor) -> "Measure":
        """The measure of what became of a `blank` image."""
        channels_last = values.shape[1] * _WIDTH == values.shape[2] * _HEIGHT
        height, channels = (values.shape[1], values.shape[3]) if channels_last else values.shape[2:0:-1]
        return cls(_HEIGHT // height, channels, channels_last)


def blank(in_channels: int) -> Tensor:
    """An image (1, C, 256, 320) without pixels."""
    return torch.empty(1, in_channels, _HEIGHT, _WIDTH, device="meta")


def on_meta(module: nn.Module, values: Tensor) -> Tensor | list[Tensor]:
    """What `module` would make of the values, without its weights being copied or its state changed."""
    state: Iterable[tuple[str, Tensor]] = chain(module.named_parameters(), module.named_buffers())
    result: Tensor | list[Tensor] = functional_call(
        module, {name: value.to("meta") for name, value in state}, (values,)
    )
    return result


def measure_chain(blocks: nn.ModuleDict, in_channels: int) -> dict[str, Measure]:
    """Stride and channels behind each block of a chain, in order."""
    values, measured = blank(in_channels), {}
    with _ShapesAlone():
        for name, block in blocks.items():
            passed = on_meta(block, values)
            assert isinstance(passed, Tensor)
            values = passed
            measured[name] = Measure.of(values)
    return measured


class _ShapesAlone(TorchFunctionMode):
    """Leaves out what keeps shapes as they are: most of the time would be spent on batch norms."""

    _KEEP = frozenset(
        getattr(functional, name)
        for name in ("batch_norm", "layer_norm", "relu", "relu6", "silu", "hardswish", "hardsigmoid", "gelu")
    )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if func in self._KEEP else func(*args, **(kwargs or {}))


def widen_input(trunk: nn.Module, in_channels: int) -> None:
    """Makes the first convolution of `trunk` take that many channels, in place, from its own filters."""
    first = next(layer for layer in trunk.modules() if isinstance(layer, nn.Conv2d))
    if first.in_channels != in_channels:
        first.weight = nn.Parameter(adapt_filters(first.weight.detach(), in_channels))
        first.in_channels = in_channels


def adapt_filters(weight_OCHW: Tensor, in_channels: int) -> Tensor:
    """A first convolution's weights (O, C, h, w) for `in_channels` images: trained filters are kept.

    One channel gets their sum: grey images are then seen as their three equal channels were. More are the
    old ones in turn (of RGB: R, G, B, R, ...), scaled so that the answer keeps its size.
    """
    given = weight_OCHW.shape[1]
    if in_channels == 1:
        return weight_OCHW.sum(1, keepdim=True)
    return in_turn(weight_OCHW, in_channels, dim=1) * (given / in_channels)


def in_turn(values: Tensor, count: int, *, dim: int = 0) -> Tensor:
    """`count` entries along `dim`: those given, over and over."""
    return values.index_select(dim, torch.arange(count, device=values.device) % values.shape[dim])
