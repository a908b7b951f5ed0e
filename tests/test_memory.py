"""What tensors leave behind stays with the process while it is asked to."""

import ctypes
import platform
import subprocess
import sys

import pytest

CODE = """
import resource, torch
from segmentation.memory import kept_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(40):
        torch.ones(2**23)  # 32 MiB, and a little
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def held():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS"))

outside = faults()
try:
    with kept_memory():
        inside, kept = faults(), held()
        raise KeyboardInterrupt
except KeyboardInterrupt:
    pass
print(outside, inside, kept, held())
"""


def takes_large_blocks() -> bool:
    """Older versions of glibc take no more than 32 MiB."""
    return platform.libc_ver()[0] == "glibc" and bool(ctypes.CDLL(None).mallopt(-3, 2**30))


@pytest.mark.skipif(not takes_large_blocks(), reason="no C library that keeps large blocks")
def test_freed_memory_is_used_again_and_given_back_at_the_end() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    outside, inside, kept, after = (int(number) for number in done.stdout.split())
    assert inside < outside / 2  # the first few are new there, too
    assert after < kept - 30_000  # kB
