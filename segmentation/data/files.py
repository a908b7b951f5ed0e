"""Folders -> pairs of file names. A million files are a million short strings, not as many paths."""

import heapq
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from segmentation.errors import UserError

ENDINGS = frozenset({"jpg", "jpeg", "png", "bmp", "tif", "tiff", "webp"})
IMAGE_ENDINGS = ENDINGS | {"npy"}
"""Of images, which may have any number of bands; masks are pictures."""

Listing = dict[str, str]
"""Stem -> file name."""


@dataclass(frozen=True)
class Pairs:
    """Images and their masks: two folders, and the file names in them in one order."""

    images: Path
    masks: Path
    image_files: tuple[str, ...]
    mask_files: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """The stems of the image files."""
        return [file.rpartition(".")[0] for file in self.image_files]

    def __len__(self) -> int:
        return len(self.image_files)

    def image_path(self, index: int) -> Path:
        """Where the image of the pair lies."""
        return self.images / self.image_files[index]

    def mask_path(self, index: int) -> Path:
        """Where the mask of the pair lies."""
        return self.masks / self.mask_files[index]

    def divide(self, parts: Mapping[str, Iterable[str]]) -> dict[str, "Pairs"]:
        """For each part its pairs, by the stems that it names."""
        place = {name: index for index, name in enumerate(self.names)}
        chosen = {part: [place[name] for name in names] for part, names in parts.items()}
        return {
            part: Pairs(
                self.images,
                self.masks,
                tuple(self.image_files[index] for index in indices),
                tuple(self.mask_files[index] for index in indices),
            )
            for part, indices in chosen.items()
        }


def list_files(folder: Path, expected: str, endings: Collection[str] = ENDINGS) -> Listing:
    """The pictures in a folder by stem; hidden files and other `endings` are left out, links are followed.

    `expected` describes the right layout in the message of the `UserError` that is raised where there is no
    such folder, it holds no picture, or two of its files share a stem.
    """
    if not folder.is_dir():
        raise missing_folder(folder, expected)
    files: Listing = {}
    for name in _scan(folder):
        stem, _, ending = name.rpartition(".")
        if not stem or ending.lower() not in endings:
            continue
        if stem in files:
            both = " and ".join(sorted((files[stem], name)))
            raise UserError(f"{folder} holds {both}, which share a name: keep one of them.")
        files[stem] = name
    if not files:
        raise UserError(f"{folder} holds no pictures ({' '.join(sorted(endings))}). Expected: {expected}.")
    return files


def pair_folders(images: Path, masks: Path, expected: str) -> Pairs:
    """Every image with the mask of the same stem, sorted by stem.

    Raises `UserError` where `list_files` does and where an image or a mask is left without partner.
    """
    image_files = list_files(images, expected, IMAGE_ENDINGS)
    mask_files = list_files(masks, expected)
    _check_partners("image", images, image_files, "mask", masks, mask_files)
    _check_partners("mask", masks, mask_files, "image", images, image_files)
    names = sorted(image_files)
    return Pairs(
        images, masks, tuple(image_files[name] for name in names), tuple(mask_files[name] for name in names)
    )


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


def _scan(folder: Path) -> Iterator[str]:
    """The names of the files in a folder, but hidden ones."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and entry.is_file():
                    yield entry.name
    except OSError as error:
        raise UserError(f"{folder} cannot be listed: {error.strerror}. Allow reading it.") from error


def _check_partners(
    one: str, folder: Path, files: Listing, other: str, other_folder: Path, other_files: Listing
) -> None:
    alone = files.keys() - other_files.keys()
    if alone:
        raise UserError(
            f"{len(alone)} of {len(files)} {one}s in {folder} have no {other} of the same name in "
            f"{other_folder} ({first_of(alone)}): add the {other}s or take the {one}s out."
        )
