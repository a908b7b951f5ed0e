"""A model turned into kernels made for it, by `torch.compile`; its weights keep their names."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._inductor import config as inductor

from segmentation.errors import UserError

_GRAPHS: dict[str, Any] = {
    # On a GPU all kernels of a picture are started at once (CUDA graphs): one by one they cost more than they compute.
    "triton.cudagraphs": True,
    # A graph holds memory for its one size of picture: once several sizes were seen, it is left out.
    "triton.cudagraph_skip_dynamic_graphs": True,
}
_FORMS = 64
"""Of one forward pass: for training and not, frozen and not, whole and last batches, models of one kind; torch's 8 are
soon used up by several checkpoints, and it would go on uncompiled."""


def compile_parts(model: nn.Module, device: torch.device) -> None:
    """For training: backbone and heads, in place, each called from many places.

    Raises `UserError` as `compile_whole` does.
    """
    _try_out(device)
    for part in model.children():
        part.compile()


def compile_whole(model: nn.Module, device: torch.device) -> Callable[[Tensor], Tensor]:
    """For inference without gradients: raw pixels -> logits, whose tensor the next call may overwrite.

    The model itself stays as it is. On a processor its weights are frozen into the compiled code: batch norms are
    folded into convolutions, whose weights are packed for oneDNN, so later changes of the weights are not seen.

    Raises `UserError` where nothing can be compiled for this device.
    """
    _try_out(device)
    if device.type != "cpu":
        return torch.compile(model, options=_GRAPHS)
    run = torch.compile(model)

    def frozen(image_BCHW: Tensor) -> Tensor:
        # Around the call, because Dynamo reads it while it traces; as an option of torch.compile, which reaches the
        # backend alone, it would change nothing.
        with inductor.patch(freezing=True):
            logits_BKHW: Tensor = run(image_BCHW)
            return logits_BKHW

    return frozen


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
