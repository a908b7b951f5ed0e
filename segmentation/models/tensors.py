"""Checks of tensors from somebody else's file, before anything is computed with them."""

import torch
from torch import Tensor


def is_dense(value: Tensor) -> bool:
    """Whether a tensor is an ordinary one that takes as much memory as its shape says.

    Sparse, quantised and expanded tensors are not: a file of a kilobyte may claim gigabytes with them.
    """
    if value.layout is not torch.strided or value.device.type != "cpu" or value.is_quantized:
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def is_finite(value: Tensor) -> bool:
    """Whether a dense tensor holds whole numbers, or real numbers that are all finite."""
    if value.is_complex():
        return False
    return not value.is_floating_point() or bool(value.isfinite().all())
