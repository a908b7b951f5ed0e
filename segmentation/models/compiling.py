"""A model turned into kernels made for it, by `torch.compile`, in place: its weights keep their names."""

import operator
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from segmentation.errors import UserError

_GRAPHS = {
    # On a GPU all kernels of a picture are started at once (CUDA graphs): one by one they cost more than they compute.
    "triton.cudagraphs": True,
    # A graph holds memory for its one size of picture: once several sizes were seen, it is left out.
    "triton.cudagraph_skip_dynamic_graphs": True,
}
_FORMS = 64
"""Of one forward pass: for training and not, frozen and not, whole and last batches, models of one kind; torch's 8 are
soon used up by several checkpoints, and it would go on uncompiled."""


def compile_parts(model: nn.Module, device: torch.device) -> None:
    """For training: backbone and heads, each called from many places. Raises `UserError` as `compile_whole` does."""
    _try_out(device)
    for part in model.children():
        part.compile()


def compile_whole(model: nn.Module, device: torch.device) -> None:
    """For inference: everything from raw pixels to logits, whose tensor the next call may overwrite.

    Raises `UserError` where nothing can be compiled for this device.
    """
    _try_out(device)
    model.compile(options=_GRAPHS)


@contextmanager
def free_sizes() -> Iterator[None]:
    """Around `torch.export.export` with free height and width, and around decompositions of its result.

    torch 2.11 computes the output size of max pooling with a division that branches on the remainder. An exported
    model would then take only sizes with the same remainder as the example. The replacement is torch's own fix, which
    2.13 has; there nothing is replaced.
    """
    if torch.__version__ >= "2.13":  # torch compares these as versions, not as text
        yield
        return
    registrations = torch._meta_registrations
    original, registrations.div_rtn = registrations.div_rtn, operator.floordiv
    try:
        yield
    finally:
        registrations.div_rtn = original


def _try_out(device: torch.device) -> None:
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _FORMS)
    # Before minutes are spent; what is missing, a compiler or its headers, shows at the first kernel.
    try:
        torch.compile(torch.sin)(torch.ones(2, device=device))
    except Exception as error:  # one of many kinds
        cause = str(getattr(error, "inner_exception", error)).strip().partition("\n")[0]
        raise UserError(
            f"compile=true: nothing can be compiled for {device.type} here ({cause}). Mend that (torch.compile needs"
            " a C++ compiler and Python's headers, Debian's g++ and python3-dev), or leave compile out."
        ) from error
