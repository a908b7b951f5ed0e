"""Where a model runs, and in which precision."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from segmentation.errors import UserError, closest

_DTYPES = {"32-true": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def choose_device(name: str) -> torch.device:
    """ "auto" is the GPU where there is one; "gpu" insists on it; else torch's own name ("cpu", "cuda:1").

    Raises `UserError` for a name that torch does not know and for a device that is not there.
    """
    if name in ("auto", "gpu"):
        found = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        if name == "gpu" and found == "cpu":
            raise UserError("accelerator=gpu, but torch finds no GPU here: take accelerator=auto or cpu.")
        return torch.device(found)
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except Exception as error:  # an unknown name, a missing driver, a number too high: one kind each
        raise UserError(f"There is no device '{name}' here: take auto, cpu or gpu.") from error
    return device


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context in which a model computes, by Lightning's name of the precision.

    "auto" is what training takes: bf16 where the hardware computes in it, fp16 on a GPU without, else fp32.
    So a checkpoint is used as it was judged; "32-true" gives the same digits on every machine.

    Raises `UserError` for another name and for fp16 without a GPU.
    """
    if precision == "auto":
        precision = _automatic(device)
    if precision not in _DTYPES:
        raise UserError(f"precision={precision} is unknown.{closest(precision, ['auto', *_DTYPES])}")
    if precision == "16-mixed" and device.type == "cpu":
        raise UserError("precision=16-mixed needs a GPU: take precision=auto.")
    dtype = _DTYPES[precision]
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


@contextmanager
def enough_memory(height: int, width: int) -> Iterator[None]:
    """Turns torch's report that a picture of this size does not fit into a `UserError` that says how it would."""
    try:
        yield
    except RuntimeError as error:
        # On the processor it is no class of its own.
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        raise UserError(
            f"{width}x{height} pixels at once do not fit in memory: give tile=1024, or a smaller tile or batch_size."
        ) from error


def _automatic(device: torch.device) -> str:
    if device.type == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported() else "32-true"
