"""The processor cores that this process may use, within the limits of its container (Linux's control groups)."""

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
