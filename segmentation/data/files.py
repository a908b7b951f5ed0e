"""Folders -> pairs of files. A million of them are a few blocks of bytes, neither paths nor strings."""

import heapq
import os
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, compress, count, islice, pairwise, tee
from operator import eq
from pathlib import Path
from typing import Any, overload

import numpy as np

from segmentation.errors import UserError

# MERGED FROM data/names: A million names in a few megabytes.

_AT_ONCE = 4096


class Names(Sequence[str]):
    """Strings one after the other in a block of bytes, each made anew when it is asked for.

    A list of a million file names takes 80 MB, and again in each process that looks at it, because looking at a
    Python object writes to it. Names may hold whatever a file system allows, UTF-8 or not.
    """

    def __init__(self, block: bytes, ends: np.ndarray) -> None:
        self._block = block
        self._ends = ends  # int64, one more than there are names: where each starts, and the end of the last

    @classmethod
    def of(cls, names: Iterable[str]) -> "Names":
        """Packs the names, in their order, without a list of them."""
        return cls._pack(name.encode(errors="surrogateescape") for name in names)

    @classmethod
    def _pack(cls, parts: Iterable[bytes]) -> "Names":
        block, lengths = bytearray(), array("q", [0])
        rest = iter(parts)
        while some := list(islice(rest, _AT_ONCE)):
            block += b"".join(some)
            lengths.extend(map(len, some))
        return cls(bytes(block), np.cumsum(np.frombuffer(lengths, np.int64)))

    def take(self, places: np.ndarray) -> "Names":
        """The names at the places, in the order of these."""
        pieces = (places[first : first + _AT_ONCE] for first in range(0, len(places), _AT_ONCE))
        return self._pack(chain.from_iterable(map(self._cut, pieces)))

    def _cut(self, places: np.ndarray) -> list[bytes]:
        starts, ends = self._ends[places].tolist(), self._ends[1:][places].tolist()
        return [self._block[start:end] for start, end in zip(starts, ends, strict=True)]

    def place(self, name: str) -> int | None:
        """Where a name stands among sorted ones; None where it does not."""
        place = bisect_left(self, name)
        return place if place < len(self) and self[place] == name else None

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "Names": ...
    def __getitem__(self, index: int | slice) -> "str | Names":
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        place = range(len(self))[index]
        return self._block[self._ends[place] : self._ends[place + 1]].decode(errors="surrogateescape")

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), _AT_ONCE):
            ends = self._ends[first : first + _AT_ONCE + 1].tolist()
            for start, end in pairwise(ends):
                yield self._block[start:end].decode(errors="surrogateescape")

    def __eq__(self, other: Any) -> bool:
        if isinstance(other, Names):
            return self._block == other._block and np.array_equal(self._ends, other._ends)
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(
            mine == theirs for mine, theirs in zip(self, other, strict=True)
        )

    __hash__ = None  # type: ignore[assignment] # equal to lists, which have none either

    def __repr__(self) -> str:
        return f"<{len(self)} names>"


class Codes:
    """Words of which few differ, a byte each: the endings of a folder's files."""

    def __init__(self, table: tuple[str, ...], codes: bytes) -> None:
        self._table = table
        self._codes = codes

    @classmethod
    def of(cls, words: Iterable[str]) -> "Codes":
        """Raises `ValueError` for more than 256 different words."""
        table: dict[str, int] = defaultdict(count().__next__)
        codes = bytes(map(table.__getitem__, words))
        return cls(tuple(table), codes)

    def take(self, places: np.ndarray) -> "Codes":
        """The words at the places, in the order of these."""
        return Codes(self._table, np.frombuffer(self._codes, np.uint8)[places].tobytes())

    def __len__(self) -> int:
        return len(self._codes)

    def __getitem__(self, index: int) -> str:
        return self._table[self._codes[index]]


def common(one: Iterable[str], other: Iterable[str]) -> Iterator[str]:
    """The names that are in both of two sorted rows, without a set of either."""
    left, right = iter(one), iter(other)
    try:
        mine, theirs = next(left), next(right)
        while True:
            if mine == theirs:
                yield mine
            if mine <= theirs:
                mine = next(left)
            else:
                theirs = next(right)
    except StopIteration:
        return


ENDINGS = frozenset({"jpg", "jpeg", "png", "bmp", "tif", "tiff", "webp"})
IMAGE_ENDINGS = ENDINGS | {"npy"}
"""Of images, which may have any number of bands; masks are pictures."""


@dataclass(frozen=True, eq=False)
class Listing(Mapping[str, str]):
    """Stem -> file name of the pictures in a folder, sorted by stem."""

    folder: Path
    stems: Names
    endings: Codes

    def __getitem__(self, stem: str) -> str:
        place = self.stems.place(stem)
        if place is None:
            raise KeyError(stem)
        return f"{stem}.{self.endings[place]}"

    def __iter__(self) -> Iterator[str]:
        return iter(self.stems)

    def __len__(self) -> int:
        return len(self.stems)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Images and their masks: two folders, the stems that files in both of them have, and their endings."""

    images: Path
    masks: Path
    names: Names
    image_endings: Codes
    mask_endings: Codes

    def __len__(self) -> int:
        return len(self.names)

    def image_path(self, index: int) -> Path:
        """Where the image of the pair lies."""
        return self.images / f"{self.names[index]}.{self.image_endings[index]}"

    def mask_path(self, index: int) -> Path:
        """Where the mask of the pair lies."""
        return self.masks / f"{self.names[index]}.{self.mask_endings[index]}"

    def divide(self, parts: Mapping[str, np.ndarray]) -> dict[str, "Pairs"]:
        """For each part the pairs at its places."""
        return {
            part: Pairs(
                self.images,
                self.masks,
                self.names.take(places),
                self.image_endings.take(places),
                self.mask_endings.take(places),
            )
            for part, places in parts.items()
        }


def list_files(folder: Path, expected: str, endings: Collection[str] = ENDINGS) -> Listing:
    """The pictures in a folder by stem; hidden files and other `endings` are left out, links are followed.

    `expected` describes the right layout in the message of the `UserError` that is raised where there is no
    such folder, it holds no picture, or two of its files share a stem.
    """
    if not folder.is_dir():
        raise missing_folder(folder, expected)
    # The stem ends in the one character that sorts before all others: "a" before "a b", as alone.
    files = sorted(_scan(folder, endings))
    if not files:
        raise UserError(f"{folder} holds no pictures ({' '.join(sorted(endings))}). Expected: {expected}.")
    stems, following = tee(_column(files, 0))
    next(following)
    twin = next(compress(count(), map(eq, stems, following)), None)
    if twin is not None:
        both = " and ".join(sorted(file.replace("\0", ".") for file in files[twin : twin + 2]))
        raise UserError(f"{folder} holds {both}, which share a name: keep one of them.")
    return Listing(folder, Names.of(_column(files, 0)), Codes.of(_column(files, 1)))


def pair_folders(images: Path, masks: Path, expected: str) -> Pairs:
    """Every image with the mask of the same stem, sorted by stem.

    Raises `UserError` where `list_files` does and where an image or a mask is left without partner.
    """
    image_files = list_files(images, expected, IMAGE_ENDINGS)
    mask_files = list_files(masks, expected)
    _check_partners("image", image_files, "mask", mask_files)
    _check_partners("mask", mask_files, "image", image_files)
    return Pairs(images, masks, image_files.stems, image_files.endings, mask_files.endings)


def first_of(names: Collection[str] | Collection[int], count: int = 3) -> str:
    """For messages: the first names in their order, and whether there are more."""
    shown = ", ".join(map(str, heapq.nsmallest(count, names)))
    return f"{shown}, ..." if len(names) > count else shown


def contents(folder: Path) -> str:
    """For messages: what a folder holds, in a few names."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(".")]
    return first_of(names, 8) if names else "nothing"


def missing_folder(folder: Path, expected: str) -> UserError:
    """For raising: which folder is missing, and what there is in the nearest one above it that exists."""
    parent = next((parent for parent in folder.parents if parent.is_dir()), None)
    beside = "" if parent is None else f" ({parent} holds {contents(parent)})"
    return UserError(f"There is no folder {folder}{beside}. Expected: {expected}.")


def _scan(folder: Path, endings: Collection[str]) -> Iterator[str]:
    """Stem, NUL and ending of the files in a folder that have one of the endings, but hidden ones."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                stem, _, ending = entry.name.rpartition(".")
                wanted = (ending in endings or ending.lower() in endings) and stem and stem[0] != "."
                if wanted and entry.is_file():
                    yield f"{stem}\0{ending}"
    except OSError as error:
        raise UserError(f"{folder} cannot be listed: {error.strerror}. Allow reading it.") from error


def _column(files: list[str], column: int) -> Iterator[str]:
    """The stems (0) or the endings (1) of what `_scan` gave; many at once, for Python would take 3 times as long."""
    parts = (files[first : first + _AT_ONCE] for first in range(0, len(files), _AT_ONCE))
    return chain.from_iterable("\0".join(part).split("\0")[column::2] for part in parts)


def _check_partners(one: str, files: Listing, other: str, other_files: Listing) -> None:
    if files.stems == other_files.stems:
        return
    alone = set(files) - set(other_files)
    if alone:
        raise UserError(
            f"{len(alone)} of {len(files)} {one}s in {files.folder} have no {other} of the same name in "
            f"{other_files.folder} ({first_of(alone)}): add the {other}s or take the {one}s out."
        )


LOOKS = 16
"""Samples of a split that are read."""


def evenly_spaced(length: int, count: int) -> list[int]:
    """At most `count` evenly spaced indices below `length`, the first and the last among them."""
    if length <= count:
        return list(range(length))
    return [round(step * (length - 1) / (count - 1)) for step in range(count)]
