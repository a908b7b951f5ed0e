"""Emulates bf16 convolutions on processors without bf16: computed in fp32, rounded as bf16 hardware rounds."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from segmentation.environment import choose_precision

_CONVOLUTIONS = (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default)


def fast_bf16(device: str) -> AbstractContextManager[object]:
    """A context in which bf16-mixed is fast enough: nothing if the hardware has bf16, else `EmulatedBF16`."""
    native = choose_precision("auto", torch.device(device)) == "bf16-mixed"
    return nullcontext() if native else EmulatedBF16()


class EmulatedBF16(TorchDispatchMode):
    """Computes convolutions of bf16 values in fp32 and rounds the results to bf16.

    Processors with bf16 do the same (their sums are fp32), except for the order of the sums. On other processors
    torch's own bf16 convolutions take about ten times as long.
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
