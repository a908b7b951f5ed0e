"""Folders -> pairs of files. A million of them are a few blocks of bytes, neither paths nor strings."""

import heapq
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, compress, count, tee
from operator import eq
from pathlib import Path

import numpy as np

from segmentation.data.names import Codes, Names
from segmentation.errors import UserError

ENDINGS = frozenset({"jpg", "jpeg", "png", "bmp", "tif", "tiff", "webp"})
IMAGE_ENDINGS = ENDINGS | {"npy"}
"""Of images, which may have any number of bands; masks are pictures."""

_AT_ONCE = 4096


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
