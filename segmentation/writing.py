"""Files that are written whole or not at all."""

import json
import math
import os
from collections.abc import Iterator, Mapping
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


def write_json(path: Path, content: Any) -> None:
    """Write plain data as JSON; undefined numbers are null."""
    write_text(path, json.dumps(_plain(content), indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all; bytes of file names that are not UTF-8 become question marks."""
    with replacing(path, encoding="utf-8", errors="replace") as file:
        file.write(text)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
