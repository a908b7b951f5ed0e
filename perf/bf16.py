"""Convolutions in bf16 on a processor without it: at the speed of fp32, rounded as hardware for bf16 rounds them."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from segmentation.environment import choose_precision

_CONVOLUTIONS = (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default)


def bf16(device: str) -> AbstractContextManager[object]:
    """Where bf16-mixed ends in sensible time: as it is where the hardware computes in it, else by `Widened`."""
    native = choose_precision("auto", torch.device(device)) == "bf16-mixed"
    return nullcontext() if native else Widened()


class Widened(TorchDispatchMode):
    """Convolutions of bf16 values in fp32, their results rounded to bf16.

    This is what processors with bf16 do, whose sums are fp32, but for the order of the sums. torch's own way on
    other processors takes some ten times as long.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Every operation below autograd and autocast comes along here."""
        if func not in _CONVOLUTIONS or args[0].dtype != torch.bfloat16:
            return func(*args, **(kwargs or {}))
        wide = [value.float() if isinstance(value, Tensor) else value for value in args]
        found = func(*wide, **(kwargs or {}))
        if isinstance(found, Tensor):
            return found.bfloat16()
        return tuple(None if value is None else value.bfloat16() for value in found)
