"""What a module does to shapes, computed on the meta device: no pixel is touched."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.overrides import TorchFunctionMode

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
