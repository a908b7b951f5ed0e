"""Which image goes where: divided by a seed, or as a file says."""

import csv
import hashlib
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from segmentation.data.files import first_of
from segmentation.data.source import Source
from segmentation.errors import UserError, closest

SPLITS = ("train", "val", "test")
_COLUMNS = ["name", "split"]
# File names need not be UTF-8; Python carries their odd bytes as surrogates.
_ODD_BYTES = "surrogateescape"

Split = Mapping[str, Sequence[str]]
"""train, val, test -> sorted names."""


def split_names(names: Collection[str], *, fractions: Sequence[float], seed: int) -> Split:
    """Divides the names by `fractions` (train, val, test; each above 0, together 1).

    The order is by a hash of seed and name: the same on every machine and with every version of Python and
    numpy, whatever order the file system lists in. Raises `UserError` for other fractions, and for names too
    few to leave one in each split.
    """
    if len(fractions) != 3 or min(fractions) <= 0 or not math.isclose(sum(fractions), 1, abs_tol=1e-6):
        raise UserError(f"dataset.fractions={list(fractions)}: give three numbers above 0 that sum to 1.")
    if len(names) < 3:
        raise UserError(
            f"{len(names)} images are too few to split into train, val and test: give at least 3."
        )
    order = sorted(
        names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode(errors=_ODD_BYTES)).digest()
    )
    val, test = (max(1, round(len(names) * fraction)) for fraction in fractions[1:])
    train = len(names) - val - test
    if train < 1:
        raise UserError(
            f"dataset.fractions={list(fractions)} leave none of {len(names)} images to train: give it more."
        )
    parts = (order[:train], order[train : train + val], order[train + val :])
    return {split: sorted(part) for split, part in zip(SPLITS, parts, strict=True)}


def write_split(path: Path, source: Source) -> None:
    """Writes columns name, split: a file that `read_split` takes back."""
    with path.open("w", newline="", encoding="utf-8", errors=_ODD_BYTES) as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for split, names in source.names().items():
            writer.writerows((name, split) for name in names)


def read_split(path: Path, names: Collection[str]) -> Split:
    """The split that the file gives for these names.

    Raises `UserError` for a file that is missing or has other columns, for names that repeat, that are not
    among `names` or are missing from the file, for unknown splits and for empty ones.
    """
    rows = _read_rows(path)
    repeated = [name for name, count in Counter(name for name, _ in rows).items() if count > 1]
    unknown = {name for name, _ in rows} - set(names)
    missing = set(names) - {name for name, _ in rows}
    for wrong, what, cure in (
        (repeated, "that occur twice", "keep one row a name"),
        (unknown, "of no image in the data", "take them out, or add the images"),
        (missing, "too few: images of the data are missing", "add a row for each"),
    ):
        if wrong:
            raise UserError(f"{path} has {len(wrong)} names {what} ({first_of(wrong)}): {cure}.")
    parts: dict[str, list[str]] = {split: [] for split in SPLITS}
    for name, split in rows:
        parts[split].append(name)
    for split, part in parts.items():
        if not part:
            raise UserError(f"{path} gives no image to {split}: every split needs at least one.")
    return {split: sorted(part) for split, part in parts.items()}


def _read_rows(path: Path) -> list[tuple[str, str]]:
    if not path.is_file():
        raise UserError(
            f"There is no file {path}: give dataset.split=PATH of a split.csv, or null to split by seed."
        )
    # utf-8-sig: spreadsheet programs put a mark before the first column.
    with path.open(newline="", encoding="utf-8-sig", errors=_ODD_BYTES) as file:
        reader = csv.reader(file)
        header = next(reader, [])
        if header != _COLUMNS:
            raise UserError(
                f"{path} starts with '{','.join(header)[:60]}': the first line must be 'name,split'."
            )
        rows = []
        for row in reader:
            if len(row) != 2 or row[1] not in SPLITS:
                word = row[1] if len(row) == 2 else ",".join(row)[:60]
                raise UserError(
                    f"{path}, line {reader.line_num}: '{word}' is no split.{closest(word, SPLITS)}"
                )
            rows.append((row[0], row[1]))
    return rows
