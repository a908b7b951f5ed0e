"""`torch.compile` for training and inference; the weights keep their names."""

import operator
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._inductor import config as inductor

from segmentation.errors import UserError

_GPU_OPTIONS: dict[str, Any] = {
    # CUDA graphs launch all kernels of an image at once: launching them one by one takes longer than they compute.
    "triton.cudagraphs": True,
    # A graph holds memory for one image size, so none is made once several sizes were seen.
    "triton.cudagraph_skip_dynamic_graphs": True,
}

# Compiled versions of one forward pass: in training and evaluation, frozen or not, for full and last batches, for
# models of one class. torch's default of 8 is not enough for several checkpoints; beyond it torch runs uncompiled.
_RECOMPILE_LIMIT = 64


def compile_parts(model: nn.Module, device: torch.device) -> None:
    """For training: compiles the backbone and the heads in place.

    Raises `UserError` as `compile_whole` does.
    """
    _check_compiler(device)
    for part in model.children():
        part.compile()


def compile_whole(model: nn.Module, device: torch.device) -> Callable[[Tensor], Tensor]:
    """For inference without gradients: raw pixels -> logits, in a tensor that the next call may overwrite.

    The model itself does not change. On a CPU its weights become constants of the compiled code (Inductor's freezing):
    batch norms are folded into convolutions and weights are packed for oneDNN. Later changes of the weights have no
    effect.

    Raises `UserError` if nothing can be compiled for this device.
    """
    _check_compiler(device)
    if device.type != "cpu":
        return torch.compile(model, options=_GPU_OPTIONS)
    run = torch.compile(model)

    def frozen(image_BCHW: Tensor) -> Tensor:
        # Set around the call, because Dynamo reads it while tracing. As an option of torch.compile it would only reach
        # the backend and change nothing.
        with inductor.patch(freezing=True):
            logits_BKHW: Tensor = run(image_BCHW)
            return logits_BKHW

    return frozen


@contextmanager
def free_sizes() -> Iterator[None]:
    """Around `torch.export.export` with free height and width, and around decompositions of its result.

    Two functions compute sizes in a way that breaks with free ones, and are replaced by others of equal results:

    torch 2.11 computes the output size of max pooling with a division that branches on the remainder. An exported
    model would then take only sizes with the same remainder as the example. The replacement is torch's own fix, which
    2.13 has; there nothing is replaced.

    timm computes "same" padding, of its `tf_` models, with a rounded quotient of floats. Its terms grow with each
    layer, so that EfficientNet-Lite0 was not exported in minutes.
    """
    replaced: list[tuple[Any, str, Any]] = []
    if torch.__version__ < "2.13":  # torch compares these as versions, not as text
        replaced.append((torch._meta_registrations, "div_rtn", operator.floordiv))
    if (timm := sys.modules.get("timm.layers.padding")) is not None:  # else the model has none of its layers
        replaced.append((timm, "get_same_padding", _same_padding))
    originals = [(module, name, getattr(module, name)) for module, name, _ in replaced]
    try:
        for module, name, function in replaced:
            setattr(module, name, function)
        yield
    finally:
        for module, name, original in originals:
            setattr(module, name, original)


def _same_padding(side: Any, kernel_size: int, stride: int, dilation: int) -> Any:
    """Pixels by which a side is padded, so that the output has `ceil(side / stride)`."""
    reach = (kernel_size - 1) * dilation + 1
    if reach == 1:
        return 0
    padding = -side % stride + reach - stride
    return padding if reach >= stride else max(padding, 0)


def _check_compiler(device: torch.device) -> None:
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _RECOMPILE_LIMIT)
    # A missing compiler or missing headers show at the first kernel; this one takes seconds, a model takes minutes.
    try:
        torch.compile(torch.sin)(torch.ones(2, device=device))
    except Exception as error:  # torch raises many types
        cause = str(getattr(error, "inner_exception", error)).strip().partition("\n")[0]
        raise UserError(
            f"compile=true: nothing can be compiled for {device.type} here ({cause}). Fix that (torch.compile needs"
            " a C++ compiler and Python's headers, Debian's g++ and python3-dev), or use compile=false."
        ) from error
