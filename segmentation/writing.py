"""Files that are written whole or not at all, and never through a symbolic link."""

import json
import math
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from segmentation.errors import UserError

_UNFINISHED = "." + "[0-9a-f]" * 16 + ".part"  # the names that `replaced` gives


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """The path of a new, empty file beside `path`, which replaces it at the end of the block, or goes if that fails.

    A reader sees the earlier file or the new one, never a part, also after a crash. A link at `path` is replaced, not
    followed, and nobody can have laid one for the new file, whose name cannot be guessed.
    """
    fresh = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        fresh.open("x").close()
    except OSError as error:
        error.filename = str(path)  # the name that its reader knows
        raise
    try:
        yield fresh
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


@contextmanager
def replacing(path: Path, mode: str = "w", **how: Any) -> Iterator[IO[Any]]:
    """The file of `replaced`, opened as by `Path.open`; text is UTF-8 wherever it is written."""
    if "b" not in mode:
        how.setdefault("encoding", "utf-8")
    with replaced(path) as fresh, fresh.open(mode, **how) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())  # else a power cut could leave the name without the contents


def write_json(path: Path, content: Any) -> None:
    """Write plain data as JSON; undefined numbers are null."""
    write_text(path, json.dumps(_plain(content), indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all; bytes of file names that are not UTF-8 become question marks."""
    with replacing(path, errors="replace") as file:
        file.write(text)


def remove_unfinished(folder: Path) -> None:
    """Removes what a killed process was writing in the folder; only for those who hold it alone."""
    for left in folder.glob(_UNFINISHED):
        left.unlink(missing_ok=True)


_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""Not on Windows, where only administrators make links."""


def no_link(name: str, flags: int) -> int:
    """Opener for `open`: raises `OSError` for a symbolic link, and for a pipe that nobody reads instead of waiting."""
    return os.open(name, flags | _NO_LINK, 0o666)


def refuse_links(paths: Iterable[Path]) -> None:
    """Raises `UserError` where one of the files or folders to be written is a symbolic link."""
    for path in paths:
        if path.is_symlink():
            raise UserError(f"{path} is a symbolic link, which writing would follow or replace: remove it.")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
