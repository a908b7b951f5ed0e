"""Files that are written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def replacing(path: Path, mode: str = "w", **how: Any) -> Iterator[IO[Any]]:
    """A new file beside `path`, opened as by `Path.open`, which replaces `path` at the end of the block.

    A reader sees the earlier file or the new one, never a part, also after a crash.
    """
    fresh = path.with_name(f"{path.name}.part")
    with fresh.open(mode, **how) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())  # else a power cut could leave the name without the contents
    fresh.replace(path)
