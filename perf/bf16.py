"""bf16 convolutions on a CPU without bf16: at the speed of fp32, and rounded as hardware with bf16 rounds them."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from segmentation.environment import choose_precision

_CONVOLUTIONS = (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default)


def bf16(device: str) -> AbstractContextManager[object]:
    """A context in which bf16-mixed is fast enough to train: nothing on hardware with bf16, else `Widened`."""
    native = choose_precision("auto", torch.device(device)) == "bf16-mixed"
    return nullcontext() if native else Widened()


class Widened(TorchDispatchMode):
    """Convolutions of bf16 values are computed in fp32 and rounded to bf16.

    CPUs with bf16 do the same, because they add in fp32; only the order of the sums differs. torch's own implementation
    for other CPUs takes about ten times as long.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called for every operation below autograd and autocast."""
        if func not in _CONVOLUTIONS or args[0].dtype != torch.bfloat16:
            return func(*args, **(kwargs or {}))
        wide = [value.float() if isinstance(value, Tensor) else value for value in args]
        found = func(*wide, **(kwargs or {}))
        if isinstance(found, Tensor):
            return found.bfloat16()
        return tuple(None if value is None else value.bfloat16() for value in found)
