"""Files that are written whole or not at all, and read where they are wanted."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def replacing(path: Path, mode: str = "w", **how: Any) -> Iterator[IO[Any]]:
    """A file beside `path` to write into, opened as by `Path.open`; at the block's end it takes that one's place.

    So a reader, and whoever comes after a crash, meets the earlier file or the new one, never a part.
    """
    fresh = path.with_name(f"{path.name}.part")
    with fresh.open(mode, **how) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())  # else a power cut could leave the name without the contents
    fresh.replace(path)


def read_if(path: Path, length: int, wanted: Callable[[bytes], bool]) -> bytes | None:
    """The bytes of a regular file whose first `length` are as wanted; None for others, and where it cannot be read."""
    try:
        with path.open("rb", buffering=0) as file:
            start = file.read(length)
            return start + file.read() if wanted(start) else None
    except (OSError, ValueError, MemoryError):
        return None
