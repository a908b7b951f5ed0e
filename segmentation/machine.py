"""The machine and this process: CPU cores and memory it may use, its command, its variables. Imports no torch."""

import math
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ENDING_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)
)
"""Ctrl-C, preemption, and what Slurm sends before a time limit (--signal=USR1@SECONDS); Windows has no SIGUSR1."""

_CGROUPS = Path("/sys/fs/cgroup")  # the limits of a container
_PROC = Path("/proc")


def cores() -> int:
    """The number of CPU cores that this process may use, by its affinity and its container's limit; at least 1."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for folder in _cgroups():
        quota, _, period = _text(folder / "cpu.max").partition(" ")
        if quota.isdigit():
            bound = min(bound, int(quota) // int(period))
    return max(bound, 1)


def free_memory() -> float:
    """Bytes that this process may still take, by the system and by its container's limit; infinite if unknown."""
    lines = dict(line.split(":", 1) for line in _text(_PROC / "meminfo").splitlines())
    free = [1024 * float(lines["MemAvailable"].split()[0])] if "MemAvailable" in lines else []
    for folder in _cgroups():
        limit, used = _text(folder / "memory.max"), _text(folder / "memory.current")
        if limit.isdigit() and used.isdigit():
            # The files that the container has read count as used, but are given up when needed.
            cached = re.search(r"^inactive_file (\d+)$", _text(folder / "memory.stat"), re.MULTILINE)
            free.append(int(limit) - int(used) + (int(cached[1]) if cached else 0))
    return min(free, default=math.inf)


def used_memory() -> float | None:
    """Bytes of memory that this process holds; None where the system does not say."""
    found = re.search(r"^VmRSS:\s+(\d+) kB$", _text(_PROC / "self/status"), re.MULTILINE)
    return 1024 * float(found[1]) if found else None


def _cgroups() -> Iterator[Path]:
    """The folders of the process's control groups, from its own up to the root."""
    line = next(
        (line for line in _text(_PROC / "self/cgroup").splitlines() if line.startswith("0::")), "0::/"
    )
    own = _CGROUPS / line[3:].lstrip("/")
    # Inside a container the path may be that of the host: then only the root exists.
    yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(_CGROUPS))


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


CONSOLE = "segmentation"
"""The command that is installed with the package."""


def program() -> list[str]:
    """The words that begin the running command: `python train.py`, or `segmentation train`."""
    name = Path(sys.argv[0]).name
    return name.split() if name.startswith(f"{CONSOLE} ") else ["python", name]


@contextmanager
def variable(name: str, value: str) -> Iterator[None]:
    """Sets an environment variable inside the block, for a library that reads it on import; a user's value is kept."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)
