"""Sums over a batch of which several processes have a share each.

Off by default: validation and test give each process images of its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.distributed import all_reduce

_pooled = False


@contextmanager
def pooled() -> Iterator[None]:
    """Inside, `total` adds up the shares of all processes, which must all come here alike."""
    global _pooled
    _pooled = True
    try:
        yield
    finally:
        _pooled = False


def total(values: Tensor) -> Tensor:
    """`values`, which are sums over a share, as sums over the whole batch; gradients flow back to every share.

    Every process then has the whole batch's loss, and the mean of their gradients is its gradient.
    """
    if not _pooled or not torch.distributed.is_initialized():
        return values
    summed: Tensor = _Total.apply(values)
    return summed


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        summed = values.clone()
        all_reduce(summed)
        return summed

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        summed = gradient.contiguous().clone()
        all_reduce(summed)
        return summed
