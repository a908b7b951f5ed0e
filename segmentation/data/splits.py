"""The division of samples into train, val and test: by a seed, by a split.csv, or by folders."""

import csv
import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from segmentation.data.dataset import WHOLE, FileDataset, FoundFiles, SegmentationDataset
from segmentation.data.files import Names, composed, encode_names, first_of
from segmentation.errors import UserError, closest
from segmentation.writing import replacing

SPLITS = ("train", "val", "test")
_COLUMNS = ["name", "split"]
_LONGEST_NAME = 255  # bytes, on every usual file system
# File names need not be UTF-8; Python represents the other bytes as surrogates.
_OTHER_BYTES = "surrogateescape"

Split = Mapping[str, np.ndarray]
"""train, val, test -> indices into the names, ascending."""


def split_names(names: Sequence[str], *, fractions: Sequence[float], seed: int) -> Split:
    """Splits the names at random by `fractions` (train, val, test; each above 0, with the sum 1).

    The order is given by the first eight bytes of a hash of seed and name. It is the same on every machine, with every
    version of Python and numpy, and for every order of `names`. Raises `UserError` for other fractions, and if there
    are too few names for at least one in each split.
    """
    if len(fractions) != 3 or min(fractions) <= 0 or not math.isclose(sum(fractions), 1, abs_tol=1e-6):
        raise UserError(f"dataset.fractions={list(fractions)}: give three numbers above 0 that sum to 1.")
    if len(names) < 3:
        raise UserError(
            f"{len(names)} images are too few to split into train, val and test: give at least 3."
        )
    seeded, keys = hashlib.sha256(f"{seed}/".encode()), bytearray()
    for name in names:
        digest = seeded.copy()
        digest.update(name.encode(errors=_OTHER_BYTES))
        keys += digest.digest()[:8]
    order = np.argsort(np.frombuffer(keys, ">u8"), kind="stable")
    val, test = (max(1, round(len(names) * fraction)) for fraction in fractions[1:])
    train = len(names) - val - test
    if train < 1:
        raise UserError(
            f"dataset.fractions={list(fractions)} leave none of {len(names)} images for train: increase its fraction."
        )
    parts = (order[:train], order[train : train + val], order[train + val :])
    return {split: np.sort(part) for split, part in zip(SPLITS, parts, strict=True)}


def write_split(path: Path, dataset: SegmentationDataset) -> None:
    """Writes the split of a data set as a CSV file with the columns name and split, for `read_split`."""
    with replacing(path, newline="", encoding="utf-8", errors=_OTHER_BYTES) as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for split, names in dataset.names().items():
            writer.writerows((name, split) for name in names)


def read_split(path: Path, names: Sequence[str]) -> Split:
    """The split of these names, in Unicode's composed form, in the file.

    Raises `UserError` for a file that is missing or has other columns, for repeated names, for names that are not
    in `names` or are missing from the file, for unknown splits and for empty splits.
    """
    listed, codes = _read_rows(path)
    wanted = names.encoded if isinstance(names, Names) else encode_names(names)
    listed_order, wanted_order = np.argsort(listed), np.argsort(wanted)
    if not np.array_equal(listed[listed_order], wanted[wanted_order]):
        raise _different(path, list(Names(listed)), set(names))
    code_of_name = np.empty(len(names), np.uint8)
    code_of_name[wanted_order] = codes[listed_order]
    parts = {split: np.flatnonzero(code_of_name == code) for code, split in enumerate(SPLITS)}
    for split, part in parts.items():
        if not len(part):
            raise UserError(f"{path} gives no image to {split}: every split needs at least one.")
    return parts


def _different(path: Path, listed: list[str], names: set[str]) -> UserError:
    """The error for a file whose names differ from those of the data."""
    repeated = [name for name, count in Counter(listed).items() if count > 1]
    unknown = set(listed) - names
    with_endings = unknown and all(name.rpartition(".")[0] in names for name in unknown)
    known = "write them without endings" if with_endings else "remove them, or add the images"
    wrong, what, cure = next(
        difference
        for difference in (
            (repeated, "that occur twice", "keep one row per name"),
            (unknown, "without an image in the data", known),
            (names - set(listed), "too few: images of the data are missing", "add a row for each"),
        )
        if difference[0]
    )
    return UserError(f"{path} has {len(wrong)} names {what} ({first_of(wrong)}): {cure}.")


def _read_rows(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The encoded name of each row, and the position of its split in `SPLITS`."""
    if not path.is_file():
        raise UserError(
            f"There is no file {path}: give dataset.split=PATH of a split.csv, or null to split by seed."
        )
    # utf-8-sig: spreadsheet programs write a byte order mark at the start.
    with path.open(newline="", encoding="utf-8-sig", errors=_OTHER_BYTES) as file, _refusing(path):
        reader = csv.reader(file)
        rows = (row for row in reader if any(row))  # editors and spreadsheet programs leave blank lines
        header = next(rows, [])
        if header != _COLUMNS:
            raise UserError(
                f"{path} starts with '{','.join(header)[:60]}': the first line must be 'name,split'."
            )
        names: list[bytes] = []
        codes = bytearray()
        for row in rows:
            if len(row) != 2 or row[1] not in SPLITS:
                word = row[1] if len(row) == 2 else ",".join(row)
                raise UserError(
                    f"{path}, line {reader.line_num}: '{word[:60]}' is not a split.{closest(word, SPLITS)}"
                )
            names.append(composed(row[0]).encode(errors=_OTHER_BYTES))
            if len(names[-1]) > _LONGEST_NAME:  # all take as much memory as the longest
                raise UserError(f"{path}, line {reader.line_num}: '{row[0][:60]}...' is no name of a file.")
            codes.append(SPLITS.index(row[1]))
    return np.array(names, dtype="S"), np.frombuffer(codes, np.uint8)


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except csv.Error as error:
        raise UserError(f"{path} is no list of names and splits ({error}): correct it.") from error


NO_TEST = "There is no test folder: val is used as test."


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """How samples without split folders are divided: by the file `split`, else at random by `fractions` and `seed`."""

    split: Path | None = None
    fractions: Sequence[float] = (0.7, 0.15, 0.15)
    seed: int = 0


def divide(found: FoundFiles, options: SplitOptions, channels: int = 3) -> SegmentationDataset:
    """The data set of the files that were found, with images of `channels` bands.

    Those that were found in folders of their own keep them; without a test folder val is used as test.

    Raises `UserError` where `split_names` and `read_split` do, and for a `split` file although there are split folders.
    """
    parts, notes = found.parts, found.notes
    if WHOLE in parts:
        whole = parts[WHOLE]
        indices = (
            split_names(whole.names, fractions=options.fractions, seed=options.seed)
            if options.split is None
            else read_split(options.split, whole.names)
        )
        parts = {split: whole.take(part) for split, part in indices.items()}
    elif options.split is not None:
        raise UserError(
            f"dataset.split={options.split} cannot be used: the data already has split folders. Leave it out."
        )
    else:
        notes += shared_names(parts)
        if "test" not in parts:
            parts = {**parts, "test": parts["val"]}
            notes += (NO_TEST,)
    train, val, test = (replace(parts[split], channels=channels) for split in SPLITS)
    if parts["test"] is parts["val"]:
        test = val
    return SegmentationDataset(found.classes, train, val, test, notes, channels)


def shared_names(parts: Mapping[str, FileDataset]) -> tuple[str, ...]:
    """A note for each two parts in which the same name occurs."""
    notes = []
    for one, other in combinations(parts, 2):
        shared = Names(np.intersect1d(parts[one].images.stems, parts[other].images.stems))
        if len(shared):
            occur = "1 file name occurs" if len(shared) == 1 else f"{len(shared)} file names occur"
            notes.append(
                f"{occur} in both {one} and {other} ({first_of(shared)}): make sure that the images differ."
            )
    return tuple(notes)
