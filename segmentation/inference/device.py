"""Where a model runs."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from segmentation.errors import UserError


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
