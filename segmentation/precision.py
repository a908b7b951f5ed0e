"""In which precision a model computes."""

import torch

from segmentation.errors import UserError, closest

_PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")


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
