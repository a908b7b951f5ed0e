"""The machine and the software that a number was made with."""

import os
import platform
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from segmentation import __version__


@contextmanager
def variable(name: str, value: str) -> Iterator[None]:
    """Sets an environment variable that a library reads while it is imported or begun; a value that is set stays."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)


def versions() -> dict[str, str]:
    """The packages that a result depends on."""
    packages = ("torch", "torchvision", "pytorch-lightning", "albumentations", "numpy")
    return {
        "segmentation": __version__,
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def device_name() -> str:
    """The GPU if there is one, else the processor."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {torch.get_num_threads()} threads"


def command_line() -> str:
    """The running command as the user typed it; the scripts quote and complete `sys.argv` on their way."""
    given = sys.orig_argv
    arguments = given[given.index(sys.argv[0]) + 1 :] if sys.argv[0] in given else sys.argv[1:]
    return shlex.join(["python", Path(sys.argv[0]).name, *arguments])
