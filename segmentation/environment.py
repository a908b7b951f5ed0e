"""Versions and device names for reports, precision, device, and errors of memory; `machine` knows cores and memory."""

import platform
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path

import torch

from segmentation import __version__
from segmentation.config import full_precision
from segmentation.errors import UserError, closest
from segmentation.machine import free_memory, program


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that a result depends on."""
    packages = ("torch", "torchvision", "pytorch-lightning", "albumentations", "numpy")
    return {
        "segmentation": __version__,
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def device_name(device: torch.device) -> str:
    """The name of the GPU, or the name of the processor with the number of torch's threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {torch.get_num_threads()} threads"


def command_line() -> str:
    """The running command as the user typed it, because the scripts quote and extend `sys.argv`.

    A process that the command started has no other: there the quotes and the options for Hydra are taken out again.
    """
    given = sys.orig_argv
    start = sys.argv[0] if program()[0] == "python" else program()[1]
    if start in given:
        arguments = given[given.index(start) + 1 :]
    else:
        typed = [argument for argument in sys.argv[1:] if not argument.startswith("hydra.")]
        arguments = [re.sub(r"^([\w.]+=)'(.*)'$", r"\1\2", argument) for argument in typed]
    return shlex.join([*program(), *arguments])


_REDUCED: dict[str, torch.dtype | None] = {
    "32-true": None,
    "bf16-mixed": torch.bfloat16,
    "16-mixed": torch.float16,
}
_PRECISIONS = ("auto", *_REDUCED)


def choose_precision(precision: str, device: torch.device) -> str:
    """Lightning's name of the precision; "auto" is bf16 if the hardware computes in it, else fp32.

    On a GPU without bf16 "auto" is fp16 with loss scaling. Training, evaluation and prediction use the same rule, so
    that a checkpoint predicts as it was evaluated. "32-true" gives the same results on every machine, except for
    rounding. 32, bf16 and 16 are short names.

    Raises `UserError` for another name, and for fp16 without a GPU.
    """
    precision = full_precision(precision)
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
    """The reduced dtype of convolutions and matrix products, or None for float32. "auto" is not accepted."""
    return _REDUCED[precision]


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The autocast context for one of Lightning's precisions. "auto" is not accepted."""
    dtype = reduced(precision)
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def choose_device(name: str) -> torch.device:
    """The device for "auto" (a GPU if there is one), "gpu" (requires one) or torch's own name ("cpu", "cuda:1").

    Raises `UserError` for a name that torch does not know and for a device that does not exist.
    """
    if name in ("auto", "gpu"):
        # Apple's GPU has no float64, in which scores are summed.
        found = "cuda" if torch.cuda.is_available() else "cpu"
        if name == "gpu" and found == "cpu":
            raise UserError("accelerator=gpu, but torch finds no GPU here: take accelerator=auto or cpu.")
        return torch.device(found)
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except Exception as error:  # unknown name, missing driver, index too high: different exceptions
        raise UserError(f"There is no device '{name}' here: take auto, cpu or gpu.") from error
    return device


_BYTES = 12  # of an output's values for a pixel: float32 logits, probabilities and their copy
_MOST_BYTES = 2**33  # of one picture: a file of 100 KB may say that it has 200 megapixels


def check_picture(name: Path, height: int, width: int, values: int, device: torch.device) -> None:
    """Raises `UserError` where a picture of this size, with `values` outputs for a pixel, is too large as a whole."""
    if device.type == "cpu" and height * width * values * _BYTES > min(free_memory(), _MOST_BYTES):
        raise UserError(f"{name} has {width}x{height} pixels, too many to predict at once: give tile=1024.")


@contextmanager
def enough_memory(height: int, width: int, values: int, device: torch.device) -> Iterator[None]:
    """Raises `UserError` where `values` outputs for each pixel of this size do not fit in memory, now or in torch.

    Before, because on a processor the system would end the process instead.
    """
    cure = f"{width}x{height} pixels at once do not fit in memory: give tile=1024, or a smaller tile or batch_size."
    if device.type == "cpu" and height * width * values * _BYTES > free_memory():
        raise UserError(cure)
    try:
        yield
    except RuntimeError as error:
        # On the CPU torch raises a plain RuntimeError.
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        raise UserError(cure) from error
