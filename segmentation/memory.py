"""The process's memory, and how it is asked for."""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

# From glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3

_MIB = 2**20


@contextmanager
def kept_memory() -> Iterator[None]:
    """While it lasts, what tensors leave behind stays with the process, for the next ones.

    glibc gives blocks of more than 32 MiB back at once; asked for again, the system brings their pages one by one and
    fills them with zeros, which takes up to an eighth of the time of a step on a processor. Not to be nested.
    Where there is no glibc, or an old one that keeps no such blocks, nothing is gained.
    """
    limit = _limits()
    if limit is None:
        yield
        return
    # Older versions take no more than 32 MiB; setting the other alone would leave it where it stands by now.
    if not limit(_MMAP_THRESHOLD, 1024 * _MIB):
        limit(_MMAP_THRESHOLD, 32 * _MIB)
    limit(_TRIM_THRESHOLD, 2047 * _MIB)
    try:
        yield
    finally:
        # The most that they grow to by themselves.
        limit(_MMAP_THRESHOLD, 32 * _MIB)
        limit(_TRIM_THRESHOLD, 64 * _MIB)
        ctypes.CDLL(None).malloc_trim(0)


def _limits() -> Callable[[int, int], int] | None:
    with suppress(AttributeError, OSError, TypeError):  # other C libraries, other systems
        library = ctypes.CDLL(None)
        if hasattr(library, "gnu_get_libc_version"):
            mallopt: Callable[[int, int], int] = library.mallopt
            return mallopt
    return None
