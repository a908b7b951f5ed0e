"""Small text files that may be a stranger's: bounded in size and depth, never waiting for a pipe. Hashes of files."""

import hashlib
import json
import os
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from segmentation.errors import UserError, one_line

_YAML_BYTES = 2**18  # a hundred times our largest; the parser takes a second for them
_JSON_BYTES = 2**24
ANNOTATION_BYTES = 2**32
"""The limit of annotation files, which hold all polygons of a data set: COCO's largest has 450 million bytes."""
LIST_BYTES = 2**28
"""The limit of lists of files, of which there may be millions."""
_TEXT_BYTES = 2**26
_DEPTH = 50


def read_bytes(path: Path, longest: int = _TEXT_BYTES) -> bytes:
    """The bytes of a regular file, or of one that `path` links to.

    Raises `UserError` for a pipe or device, and for more bytes than `longest`; `OSError` where there is none.
    """
    # Opening a named pipe would wait for somebody who writes into it.
    with open(path, "rb", opener=_not_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise UserError(f"{path} is no file but a pipe, device or folder: replace it.")
        content = file.read(longest + 1)
    if len(content) > longest:
        raise UserError(f"{path} is larger than {longest} bytes, which none of ours is: replace it.")
    return content


def read_text(path: Path, longest: int = _TEXT_BYTES, errors: str = "replace") -> str:
    """UTF-8 text, with a question mark for other bytes. Raises as `read_bytes`."""
    # Editors and spreadsheet programs write a byte order mark at the start.
    return read_bytes(path, longest).decode("utf-8-sig", errors)


def last_line(path: Path) -> str:
    """The last line of a text file that is not blank, as `one_line`; "" where there is none, or no file."""
    lines = read_text(path).split("\n") if path.exists() else []
    return one_line(next((line for line in reversed(lines) if line.strip()), ""))


def read_json(
    path: Path, longest: int = _JSON_BYTES, object_hook: Callable[[dict[str, Any]], Any] | None = None
) -> Any:
    """The content of a JSON file. `object_hook` replaces each object as soon as it is read, which saves memory.

    Raises `UserError` for a damaged file, and as `read_bytes`.
    """
    content = _parsed(path, "JSON", partial(json.loads, object_hook=object_hook), longest)
    # Whoever reads a small file may go through it by recursion; large ones are annotations, read by their keys.
    if longest <= _JSON_BYTES and _is_deep(content):
        raise UserError(f"{path}: it is nested deeper than {_DEPTH}: correct the JSON.")
    return content


def _is_deep(content: Any) -> bool:
    level = [content]
    for _ in range(_DEPTH):
        groups = [part for part in level if isinstance(part, dict | list)]
        level = [item for part in groups for item in (part.values() if isinstance(part, dict) else part)]
    return bool(level)


def file_hash(path: Path) -> str:
    """A hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


class Loader(yaml.SafeLoader):
    """Loads plain data, without aliases (`*name`), by which few lines can mean terabytes, and not too deep."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """The next node."""
        if self.check_event(yaml.AliasEvent):
            raise ValueError(f"aliases such as *{self.peek_event().anchor} are not supported")
        if self._depth == _DEPTH:
            raise ValueError(f"it is nested deeper than {_DEPTH}")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def read_yaml(path: Path, loader: type[Loader] = Loader) -> Any:
    """The content of a YAML file. Raises `UserError` for what `Loader` refuses, and as `read_bytes`."""
    return _parsed(path, "YAML", partial(yaml.load, Loader=loader), _YAML_BYTES)


def _not_waiting(name: str, flags: int) -> int:
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))  # Windows has no pipes among files


def _parsed(path: Path, kind: str, parse: Callable[[bytes], Any], longest: int) -> Any:
    content = read_bytes(path, longest)
    try:
        return parse(content)
    except Exception as error:  # a month 99 or a number of 5,000 digits raises what it likes
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        cause = getattr(error, "problem", None) or str(error).partition("\n")[0] or type(error).__name__
        raise UserError(f"{path}{line}: {cause}: correct the {kind}.") from error
