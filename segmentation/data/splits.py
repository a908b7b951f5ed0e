"""Who goes to train, val and test: by a seed, in groups, strata and folds, by a split.csv, or by folders."""

import csv
import hashlib
import math
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import StringIO
from itertools import combinations
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from segmentation.data.dataset import WHOLE, FileDataset, FoundFiles, SegmentationDataset
from segmentation.data.files import Names, composed, encode_names, first_of
from segmentation.data.image_io import present_values
from segmentation.errors import UserError, closest
from segmentation.options import find_in_names
from segmentation.reading import LIST_BYTES, read_text
from segmentation.types import IGNORE_INDEX
from segmentation.writing import replacing

SPLITS = ("train", "val", "test")
_COLUMNS = ["name", "split"]
LONGEST_NAME = 255
"""Bytes of a file's name, on every usual file system."""

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
    check_fractions(fractions)
    if len(names) < 3:
        raise UserError(
            f"{len(names)} images are too few to split into train, val and test: give at least 3."
        )
    order = _hash_order(names, seed)
    val, test = (max(1, round(len(names) * fraction)) for fraction in fractions[1:])
    train = len(names) - val - test
    if train < 1:
        raise UserError(
            f"dataset.fractions={list(fractions)} leave none of {len(names)} images for train: increase its fraction."
        )
    parts = (order[:train], order[train : train + val], order[train + val :])
    return {split: np.sort(part) for split, part in zip(SPLITS, parts, strict=True)}


def check_fractions(fractions: Sequence[float]) -> None:
    if len(fractions) != 3 or min(fractions) <= 0 or not math.isclose(sum(fractions), 1, abs_tol=1e-6):
        raise UserError(f"dataset.fractions={list(fractions)}: give three numbers above 0 that sum to 1.")


def _hash_order(names: Sequence[str], seed: int) -> np.ndarray:
    seeded, keys = hashlib.sha256(f"{seed}/".encode()), bytearray()
    for name in names:
        digest = seeded.copy()
        digest.update(name.encode(errors=_OTHER_BYTES))
        keys += digest.digest()[:8]
    return np.argsort(np.frombuffer(keys, ">u8"), kind="stable")


def split_units(
    groups: Sequence[str], strata: Sequence[str], *, shares: Sequence[float], seed: int
) -> np.ndarray:
    """The number of the share that each sample goes to, uint8 (N,): samples of one group go to the same.

    The groups are taken stratum by stratum, in each by the order of a hash, as in `split_names`; the next one always
    goes to the share that is furthest behind. So the shares differ from `shares` by no more than a group, and in each
    stratum by no more than two. A group's stratum is the commonest of its samples'. Every share gets a group; raises
    `UserError` if there are fewer groups than shares.
    """
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    if len(members) < len(shares):
        alone = len(members) == len(groups)
        found = (
            f"{len(groups)} images are"
            if alone
            else f"The images are {len(members)} groups ({first_of(members)}),"
        )
        cure = "give fewer dataset.folds, or more images" if alone else "correct dataset.group"
        raise UserError(f"{found} too few for {len(shares)} parts: {cure}.")
    names = sorted(members)
    stratum = [_commonest([strata[index] for index in members[name]]) for name in names]
    order = sorted(
        _hash_order(names, seed).tolist(), key=stratum.__getitem__
    )  # sorted() keeps the order of equals
    sizes = [len(members[names[unit]]) for unit in order]
    shared = _deal(sizes, shares)
    part_of_sample = np.empty(len(groups), np.uint8)
    for unit, part in zip(order, shared, strict=True):
        part_of_sample[members[names[unit]]] = part
    return part_of_sample


def _commonest(values: Sequence[str]) -> str:
    counts = Counter(values)
    return min(counts, key=lambda value: (-counts[value], value))


def _deal(sizes: Sequence[int], shares: Sequence[float]) -> list[int]:
    """The share of each unit: the one that is furthest behind gets the next one, and none is left empty."""
    dealt, seen = [0.0] * len(shares), 0
    parts = []
    for size in sizes:
        seen += size
        behind = [share * seen - given for share, given in zip(shares, dealt, strict=True)]
        parts.append(behind.index(max(behind)))
        dealt[parts[-1]] += size
    for part in set(range(len(shares))) - set(parts):
        counts = Counter(parts)
        giver = max(counts, key=lambda other: (dealt[other], -other) if counts[other] > 1 else (-1.0, 0))
        unit = min((unit for unit, own in enumerate(parts) if own == giver), key=sizes.__getitem__)
        parts[unit] = part
        dealt[giver] -= sizes[unit]
        dealt[part] += sizes[unit]
    return parts


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
    wanted = names.encoded if isinstance(names, Names) else encode_names(names)
    # All take as much memory as the longest.
    listed, codes = _read_rows(path, longest=max(LONGEST_NAME, wanted.itemsize))
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


def _read_rows(path: Path, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """The encoded name of each row, of at most so many bytes, and the position of its split in `SPLITS`."""
    if not path.is_file():
        raise UserError(
            f"There is no file {path}: give dataset.split=PATH of a split.csv, or null to split by seed."
        )
    with _refusing(path):
        reader = csv.reader(StringIO(read_text(path, LIST_BYTES, _OTHER_BYTES), newline=""))
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
            if len(names[-1]) > longest:
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


_PARENT = "{parent}"
_CLASSES = "classes"


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """How samples without split folders are divided: by the file `split`, else at random by `fractions` and `seed`.

    `group` names what is never parted and `stratify` what is divided alike, each by "{parent}" (the folder in a
    sample's name) or a regular expression (its first group, else the whole match); `stratify` may be "classes": the
    rarest class in the mask. With `folds`, test is the fold number `fold`, val the next one, and train the rest.
    """

    split: Path | None = None
    fractions: Sequence[float] = (0.7, 0.15, 0.15)
    seed: int = 0
    group: str | None = None
    stratify: str | None = None
    folds: Annotated[int, Field(ge=3, le=100)] | None = None
    fold: Annotated[int, Field(ge=0)] = 0

    def refuse_beside(self, what: str) -> None:
        """Raises `UserError` for an option that divides data which `what` divides already."""
        for option in ("group", "stratify", "folds"):
            if getattr(self, option) is not None:
                raise UserError(
                    f"dataset.{option}={getattr(self, option)} cannot be used: {what}. Leave one out."
                )


def divide(found: FoundFiles, options: SplitOptions, channels: int = 3) -> SegmentationDataset:
    """The data set of the files that were found, with images of `channels` bands.

    Those that were found in folders of their own keep them; without a test folder val is used as test, and without a
    val folder a part of train becomes val.

    Raises `UserError` where `split_names`, `read_split` and `split_units` do, for options that contradict each other,
    and for options that divide the data although there are split folders.
    """
    with _as_split_error():
        return _divided(found, options, channels)


@contextmanager
def _as_split_error() -> Iterator[None]:
    try:
        yield
    except UserError as error:
        error.kind = error.kind or "split"
        raise


def _divided(found: FoundFiles, options: SplitOptions, channels: int) -> SegmentationDataset:
    parts, notes = found.parts, found.notes
    if options.folds is None and options.fold:
        raise UserError(f"dataset.fold={options.fold} has no use without dataset.folds: give both.")
    if WHOLE in parts:
        whole = parts[WHOLE]
        parts = {split: whole.take(part) for split, part in _indices(whole, found, options).items()}
    elif options.split is not None:
        raise UserError(
            f"dataset.split={options.split} cannot be used: the data already has split folders. Leave it out."
        )
    else:
        options.refuse_beside("the data already has split folders")
        notes += () if found.overlapping else shared_names(parts)
        if "val" not in parts:
            parts, taken = _with_val(parts, options, found.groups)
            notes += (taken,)
        if "test" not in parts:
            parts = {**parts, "test": parts["val"]}
            notes += (NO_TEST,)
    train, val, test = (replace(parts[split], channels=channels) for split in SPLITS)
    if parts["test"] is parts["val"]:
        test = val
    return SegmentationDataset(found.classes, train, val, test, notes, channels)


def _indices(whole: FileDataset, found: FoundFiles, options: SplitOptions) -> Split:
    names = whole.names
    if options.split is not None:
        options.refuse_beside(f"dataset.split={options.split} divides the data")
        return read_split(options.split, names)
    if options.group is None and options.stratify is None and options.folds is None and not found.groups:
        return split_names(names, fractions=options.fractions, seed=options.seed)
    if options.folds is None:
        check_fractions(options.fractions)
    elif options.fold >= options.folds:
        raise UserError(
            f"dataset.fold={options.fold} is not one of the {options.folds} folds 0..{options.folds - 1}."
        )
    groups = found.groups or names
    if options.group is not None:
        groups = keys_of_names("dataset.group", options.group, names)
    strata = [""] * len(names)
    if options.stratify is not None:
        strata = (
            _rarest_classes(whole, found)
            if options.stratify == _CLASSES
            else keys_of_names("dataset.stratify", options.stratify, names)
        )
    shares = options.fractions if options.folds is None else [1 / options.folds] * options.folds
    part_of = split_units(groups, strata, shares=shares, seed=options.seed)
    if options.folds is not None:
        # Fold -> its part: 0 is test and 1 val, counted from the chosen one.
        place = (part_of.astype(int) - options.fold) % options.folds
        part_of = np.select([place == 0, place == 1], [SPLITS.index("test"), SPLITS.index("val")], 0)
    return {split: np.flatnonzero(part_of == number) for number, split in enumerate(SPLITS)}


def keys_of_names(option: str, pattern: str, names: Sequence[str]) -> list[str]:
    """The group or stratum of each name. Raises `UserError` for a pattern that does not fit, or tells none apart."""
    if pattern == _PARENT:
        keys = [name.rpartition("/")[0] for name in names]
    else:
        try:
            re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise UserError(
                f"{option}={pattern} is no regular expression ({error}): write such as '^(.+)_', or"
                " {parent} for the folders."
            ) from error
        matches = find_in_names(pattern, names, option)
        unmatched = [name for name, match in zip(names, matches, strict=True) if match is None]
        if unmatched:
            raise UserError(
                f"{option}={pattern} is not in {len(unmatched)} of {len(names)} names ({first_of(unmatched)}):"
                " correct it, so that each name has one."
            )
        keys = [match for match in matches if match is not None]
    if len(set(keys)) < 2 <= len(names):
        raise UserError(
            f"{option}={pattern} is '{keys[0]}' for all {len(names)} names ({first_of(names)}): correct it,"
            " so that it tells them apart."
        )
    return keys


def _rarest_classes(whole: FileDataset, found: FoundFiles) -> list[str]:
    """The class in each mask that the fewest masks hold; "" where all is ignored. Every mask is read."""

    def present(index: int) -> list[int]:
        return [value for value in present_values(whole.mask(index)) if value != IGNORE_INDEX]

    # Readers change the warning filters of all threads: this restores them.
    with warnings.catch_warnings(), ThreadPoolExecutor() as pool:
        held = list(pool.map(present, range(len(whole))))
    counts = Counter(label for labels in held for label in labels)
    names = found.classes.names
    return [names[min(labels, key=lambda label: (counts[label], label))] if labels else "" for labels in held]


def _with_val(
    parts: Mapping[str, FileDataset], options: SplitOptions, groups: Sequence[str]
) -> tuple[dict[str, FileDataset], str]:
    """The parts with val, taken from train by a hash of the names in the proportion of the fractions; a note of it.

    `groups`, if there are any, stay together.
    """
    check_fractions(options.fractions)
    train = parts["train"]
    if len(train) < 2:
        raise UserError("There is no val folder, and train has too few images to take some: give at least 2.")
    share = options.fractions[1] / (options.fractions[0] + options.fractions[1])
    if groups:
        part_of = split_units(groups, [""] * len(groups), shares=[1 - share, share], seed=options.seed)
        val, rest = np.flatnonzero(part_of == 1), np.flatnonzero(part_of == 0)
    else:
        order = _hash_order(train.names, options.seed)
        count = min(max(1, round(len(train) * share)), len(train) - 1)
        val, rest = np.sort(order[:count]), np.sort(order[count:])
    note = f"There is no val folder: {len(val)} of {len(train)} train images are val (dataset.seed, dataset.fractions)."
    return {**parts, "train": train.take(rest), "val": train.take(val)}, note


def shared_names(parts: Mapping[str, FileDataset]) -> tuple[str, ...]:
    """A note for each two parts in which the same name occurs."""
    notes = []
    if parts.get("test") is parts.get("val"):  # as the reader says itself
        parts = {part: files for part, files in parts.items() if part != "test"}
    for one, other in combinations(parts, 2):
        shared = Names(np.intersect1d(parts[one].images.stems, parts[other].images.stems))
        if len(shared):
            occur = "1 file name occurs" if len(shared) == 1 else f"{len(shared)} file names occur"
            notes.append(
                f"{occur} in both {one} and {other} ({first_of(shared)}): make sure that the images differ."
            )
    return tuple(notes)
