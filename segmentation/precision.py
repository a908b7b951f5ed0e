"""In which precision a model computes."""

from contextlib import AbstractContextManager, nullcontext

import torch

from segmentation.errors import UserError, closest

_REDUCED: dict[str, torch.dtype | None] = {
    "32-true": None,
    "bf16-mixed": torch.bfloat16,
    "16-mixed": torch.float16,
}
_PRECISIONS = ("auto", *_REDUCED)


def choose_precision(precision: str, device: torch.device) -> str:
    """Lightning's name of the precision; "auto" is bf16 where the hardware computes in it, else fp32.

    On a GPU without bf16 "auto" is fp16 with loss scaling. Training, evaluation and use choose alike, so that a
    checkpoint is used as it was judged; "32-true" gives the same on every machine, to rounding.

    Raises `UserError` for another name, and for fp16 without a GPU.
    """
    if precision not in _PRECISIONS:
        raise UserError(f"precision={precision} is unknown.{closest(precision, _PRECISIONS)}")
    if precision == "16-mixed" and device.type == "cpu":
        raise UserError("precision=16-mixed needs a GPU: take precision=auto.")
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported() else "32-true"


def reduced(precision: str) -> torch.dtype | None:
    """In what convolutions and matrix products compute, where that is less than float32; "auto" is no such name."""
    return _REDUCED[precision]


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context in which a model computes in one of Lightning's precisions, "auto" not among them."""
    dtype = reduced(precision)
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)
