"""`csv`: a table with the columns image and mask, and perhaps split and group."""

import csv as csv_files
import posixpath
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from segmentation.data.class_map import ClassOptions
from segmentation.data.dataset import WHOLE, FoundFiles
from segmentation.data.files import IMAGE_ENDINGS, Pairs, contents, first_of, missing_folder
from segmentation.data.layouts.folders import with_masks
from segmentation.data.layouts.pairs import File, as_pairs, in_order, walk
from segmentation.data.mask_values import decoder_of
from segmentation.data.recognise import PARTS
from segmentation.data.remote import check_address, is_address, remote_listing
from segmentation.data.splits import SPLITS
from segmentation.errors import UserError, closest
from segmentation.reading import LIST_BYTES, read_text

_EXPECTED = "a CSV file with the columns image and mask"
_COLUMNS = ("image", "mask", "split", "group")
_HEADER_BYTES = 2**16


class _Row(NamedTuple):
    image: File
    mask: File
    split: str
    group: str


def csv(
    described: ClassOptions,
    /,
    *,
    root: Path,
    file: str | None = None,
    threshold: int | Literal["auto"] = "auto",
) -> FoundFiles:
    """The rows of a CSV file in `root`, by default the only one there: image, mask, and perhaps split and group.

    Paths are as seen from the CSV file, or from `root`; or all are addresses (`data/remote.py`). Samples are in the
    splits of their rows, else divided as one; rows of one group then stay together, also where val is taken from train.
    The classes are as `decoder_of` says.

    Raises `UserError` for another table, for paths that are not in `root`, and for an image that occurs twice.
    """
    path = _find(root, file)
    rows = _read(path, root)
    order = in_order([row.image for row in rows])
    rows = [rows[index] for index in order]
    repeated = [image.path for image, count in Counter(row.image for row in rows).items() if count > 1]
    if repeated:
        raise UserError(f"{path} lists images twice ({first_of(repeated)}): keep one row of each.")
    by_split: dict[str, list[tuple[File, File]]] = {}
    for row in rows:
        by_split.setdefault(row.split or WHOLE, []).append((row.image, row.mask))
    if WHOLE in by_split and len(by_split) > 1:
        raise UserError(
            f"{path}: {len(by_split[WHOLE])} rows have no split, but others do: fill all or none."
        )
    if WHOLE not in by_split and ("train" not in by_split or len(by_split) == 1):
        raise UserError(
            f"{path} has the splits {', '.join(sorted(by_split))}: give train and val, or leave them out."
        )
    remote = [is_address(file.stem) for row in rows for file in (row.image, row.mask)]
    if any(remote) and not all(remote):
        raise UserError(f"{path} has paths and addresses: write one of them in all rows.")
    pair = _remote_pairs if any(remote) else partial(as_pairs, root)
    parts = {part: pair(by_split[part]) for part in (*SPLITS, WHOLE) if part in by_split}
    classes, decoder, notes = decoder_of(described, root, parts, threshold)
    divided = [row for row in rows if row.split in ("", "train")]
    # A row without a group belongs to no other.
    groups = [row.group or row.image.path for row in divided] if any(row.group for row in divided) else []
    return FoundFiles(classes, with_masks(parts, decoder), notes, groups)


def _remote_pairs(found: Sequence[tuple[File, File]]) -> Pairs:
    return Pairs(*(remote_listing([file.path for file in files]) for files in zip(*found, strict=True)))


def table_in(root: Path) -> str | None:
    """The name of the only CSV file in a folder, where its columns are those of `csv`; else None."""
    files = [path for path in root.glob("*.csv") if path.is_file()]
    if len(files) != 1:
        return None
    with files[0].open("rb") as file:  # the others may be anything
        header, _ = _cells(files[0], file.readline(_HEADER_BYTES).decode("utf-8-sig", "replace"))
    return files[0].name if set(_COLUMNS[:2]) <= set(header) else None


def _find(root: Path, file: str | None) -> Path:
    if not root.is_dir():
        raise missing_folder(root, _EXPECTED)
    found = [root / file] if file is not None else sorted(root.glob("*.csv"))
    if len(found) != 1 or not found[0].is_file():
        raise UserError(f"{root} holds {contents(root)}: give dataset.file=NAME.csv, {_EXPECTED}.")
    return found[0]


def _read(path: Path, root: Path) -> list[_Row]:
    try:
        below = path.parent.relative_to(root).as_posix()
    except ValueError:
        raise UserError(f"{path} is not in dataset.root={root}: give a path in it.") from None
    header, table = _cells(path, read_text(path, LIST_BYTES))
    for name in _COLUMNS:
        if header.count(name) > 1 or (name in _COLUMNS[:2] and name not in header):
            many = "several columns" if name in header else "no column"
            raise UserError(f"{path} has {many} '{name}': the first line must be image,mask[,split][,group].")
    known = {file.path: file for file in walk(root)}
    rows = []
    for number, cells in enumerate(table, 2):
        if not any(cells):
            continue
        if len(cells) != len(header):
            raise UserError(
                f"{path}, line {number}: {len(cells)} values for {len(header)} columns: correct it."
            )
        values = dict(zip(header, map(str.strip, cells), strict=True))
        split = values.get("split", "").lower()
        if split and split not in PARTS:
            raise UserError(f"{path}, line {number}: '{split[:60]}' is not a split.{closest(split, SPLITS)}")
        where = f"{path}, line {number}"
        image, mask = (_file(values[name], where, below, root, known) for name in _COLUMNS[:2])
        rows.append(_Row(image, mask, PARTS.get(split, ""), values.get("group", "")))
    if not rows:
        raise UserError(f"{path} has no rows: list an image and its mask in each.")
    return rows


def _cells(path: Path, text: str) -> tuple[list[str], list[list[str]]]:
    """The names of the columns, in lower case, and the rows."""
    lines = text.splitlines()
    # In some languages spreadsheet programs write semicolons.
    separator = max(",;\t", key=lambda mark: lines[0].count(mark)) if lines else ","
    try:
        table = list(csv_files.reader(lines, delimiter=separator))
    except csv_files.Error as error:
        raise UserError(f"{path} is no table ({error}): correct it.") from error
    return [name.strip().lower() for name in table[0]] if table else [], table[1:]


def _file(text: str, where: str, below: str, root: Path, known: dict[str, File]) -> File:
    if is_address(text):
        check_address(text, where)
        stem, _, ending = text.rpartition(".")
        return File(stem, ending)
    written = text.replace("\\", "/").removeprefix(f"{root.absolute().as_posix()}/")
    for start in (below, ""):
        path = posixpath.normpath(posixpath.join(start, written))
        if not written.startswith("/") and path in known:
            return known[path]
    ending = written.rpartition(".")[2].lower()
    cure = "add the file" if ending in IMAGE_ENDINGS else "write paths of pictures"
    raise UserError(
        f"{where}: '{text[:80]}' is no picture in dataset.root: {cure}, as seen from the CSV file."
    )
