"""What tensors leave behind stays with the process while it is asked to."""

import platform
import subprocess
import sys

import pytest

from segmentation.memory import kept_memory

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
with kept_memory():
    inside, kept = faults(), held()
print(outside, inside, kept, held(), faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that is asked")
def test_freed_memory_is_used_again_and_given_back_at_the_end() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    outside, inside, kept, after, behind = (int(number) for number in done.stdout.split())
    assert inside < outside / 2  # the first few are new there, too
    assert after < kept - 30_000  # kB
    assert behind > outside / 2


def test_it_ends_with_an_error_too() -> None:
    with pytest.raises(ZeroDivisionError), kept_memory():
        raise ZeroDivisionError
