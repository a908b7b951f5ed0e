"""What this process may use of the machine, within the limits of its container (Linux's control groups)."""

import os
from collections.abc import Iterator
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_PROC = Path("/proc")


def cores() -> int:
    """Processor cores: those that the process is bound to, and no more than its container's share; at least 1."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for folder in _own_groups():
        quota, _, period = _text(folder / "cpu.max").partition(" ")
        if quota.isdigit():
            bound = min(bound, int(quota) // int(period))
    return max(bound, 1)


def free_memory() -> int:
    """Bytes that can be taken without swapping, by the kernel's own estimate; 0 where there is no such estimate."""
    lines = dict(line.split(":", 1) for line in _text(_PROC / "meminfo").splitlines())
    free = int(lines.get("MemAvailable", "0 kB").split()[0]) * 1024
    for folder in _own_groups():
        limit, used = _text(folder / "memory.max"), _text(folder / "memory.current")
        if limit.isdigit() and used.isdigit():
            statistics = dict(line.split() for line in _text(folder / "memory.stat").splitlines())
            # Files that were read long ago give way to whoever needs memory.
            free = min(free, int(limit) - int(used) + int(statistics.get("inactive_file", 0)))
    return max(free, 0)


def _own_groups() -> Iterator[Path]:
    """The folders of the control groups that the process is in, from its own up to the whole machine's."""
    line = next(
        (line for line in _text(_PROC / "self/cgroup").splitlines() if line.startswith("0::")), "0::/"
    )
    own = _GROUPS / line[3:].lstrip("/")
    # Inside a container the path may be the one that the host knows: only the top is there then.
    yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(_GROUPS))


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
