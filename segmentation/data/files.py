"""Folders -> pairs of image and mask files.

File names are kept in arrays of bytes (numpy's dtype "S"), because there may be a million: a list of strings takes five
times the memory, and again in each loader process, because reading a Python object changes its reference count. File
names need not be UTF-8; other bytes become surrogates, as everywhere in Python (`os.fsdecode`). Names are compared in
Unicode's composed form: macOS writes é as two characters, others as one.
"""

import heapq
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import eq
from pathlib import Path
from typing import overload
from unicodedata import normalize

import numpy as np

from segmentation.data.recognise import recognised
from segmentation.errors import UserError, one_line, refuse

ENDINGS = frozenset({"bmp", "gif", "jpeg", "jpg", "png", "tif", "tiff", "webp"})
"""The file name endings of masks, and of images with up to four bands."""

ARRAYS = frozenset({"npy"})
"""The file name endings of numpy's arrays: of images, and of masks where there are no pictures of them."""

IMAGE_ENDINGS = ENDINGS | ARRAYS
"""The file name endings of images, which may have any number of bands."""

_CHUNK = 4096  # names decoded at once
_SHOWN_LETTERS = 100  # of a name in a message


def encode_names(names: Iterable[str]) -> np.ndarray:
    """Names as an array of bytes; `decode_name` is the inverse for one of them."""
    return np.array([name.encode(errors="surrogateescape") for name in names], dtype="S")


def decode_name(name: bytes) -> str:
    """The string of a name in an array of bytes."""
    return name.decode(errors="surrogateescape")


def composed(name: str) -> str:
    """The name in Unicode's composed form (NFC)."""
    return normalize("NFC", name)


@dataclass(frozen=True, eq=False)
class Names(Sequence[str]):
    """An array of encoded names, read as strings."""

    encoded: np.ndarray

    def __len__(self) -> int:
        return len(self.encoded)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "Names": ...
    def __getitem__(self, index: int | slice) -> "str | Names":
        if isinstance(index, slice):
            return Names(self.encoded[index])
        return decode_name(self.encoded[index].item())

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _CHUNK):
            yield from map(decode_name, self.encoded[start : start + _CHUNK].tolist())

    def __eq__(self, other: object) -> bool:
        """Equal to any sequence of the same strings."""
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment] # like lists, to which it may be equal


@dataclass(frozen=True, eq=False)
class Listing:
    """Files in a folder, sorted by stem, as arrays of bytes.

    `stems` are the names of the samples, in composed form; `written` are the files' paths in the folder without their
    endings: the same array where they do not differ.
    """

    folder: Path
    stems: np.ndarray
    written: np.ndarray
    endings: np.ndarray

    def __len__(self) -> int:
        return len(self.stems)

    def path(self, index: int) -> Path:
        """A file."""
        return self.folder / decode_name(self.written[index] + b"." + self.endings[index])

    def take(self, indices: np.ndarray) -> "Listing":
        """The files at these indices."""
        stems = self.stems[indices]
        written = stems if self.written is self.stems else self.written[indices]
        return Listing(self.folder, stems, written, self.endings[indices])

    def find(self, names: np.ndarray) -> np.ndarray:
        """The index of the file with each of these encoded stems; -1 where there is none."""
        indices = np.searchsorted(self.stems, names).clip(max=len(self) - 1)
        return np.where(self.stems[indices] == names, indices, -1)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Images and their masks: files of the same stems in the same order."""

    images: Listing
    masks: Listing

    @classmethod
    def of(cls, images: Listing, masks: Listing) -> "Pairs":
        """Two listings of equal stems, which are then held only once."""
        written = images.stems if masks.written is masks.stems else masks.written
        return cls(images, replace(masks, stems=images.stems, written=written))

    def __len__(self) -> int:
        return len(self.images)

    @property
    def names(self) -> Names:
        """The stems as strings."""
        return Names(self.images.stems)

    def image_path(self, index: int) -> Path:
        """The image file of a pair."""
        return self.images.path(index)

    def mask_path(self, index: int) -> Path:
        """The mask file of a pair."""
        return self.masks.path(index)


def listing_of(folder: Path, paths: Iterable[str]) -> Listing:
    """The files at these paths in a folder, in this order."""
    parts = [path.rpartition(".") for path in paths]
    written = encode_names(stem for stem, _, _ in parts)
    return Listing(folder, _composed(written), written, encode_names(ending for _, _, ending in parts))


def list_files(
    folder: Path, expected: str, endings: Collection[str] = ENDINGS, otherwise: Collection[str] = ()
) -> Listing:
    """The files in a folder with one of the `endings`, upper or lower case, without hidden files; links are followed.

    Where there are none, those with one of the endings `otherwise`.

    Raises `UserError` if the folder does not exist or has no such file, or if two of its files have the same stem.
    The messages quote `expected`, a description of the right layout.
    """
    if not folder.is_dir():
        raise missing_folder(folder, expected)
    stems, file_endings = _scan(folder, {ending.encode() for ending in endings})
    if not len(stems) and otherwise:
        stems, file_endings = _scan(folder, {ending.encode() for ending in otherwise})
    if not len(stems):
        layout = instead_of(expected, folder, folder.parent)
        deeper = ", and folders in it are not searched" if any(map(Path.is_dir, folder.iterdir())) else ""
        raise UserError(f"{folder} holds no images ({' '.join(sorted(endings))}){deeper}. {layout}")
    names = _composed(stems)
    listing = Listing(folder, names, stems, file_endings).take(np.argsort(names))
    repeated = np.flatnonzero(listing.stems[1:] == listing.stems[:-1])
    if len(repeated):
        both = " and ".join(sorted(listing.path(repeated[0] + more).name for more in (0, 1)))
        raise UserError(f"{folder} holds {both}, which have the same name: keep one of them.")
    return listing


def pair_folders(images: Path, masks: Path, expected: str) -> Pairs:
    """Every image with the mask of the same stem, sorted by stem.

    Raises `UserError` like `list_files`, for an image without mask and for a mask without image.
    """
    image_files = list_files(images, expected, IMAGE_ENDINGS)
    mask_files = list_files(masks, expected, otherwise=ARRAYS)
    if not np.array_equal(image_files.stems, mask_files.stems):
        _check_partners("image", image_files, "mask", mask_files)
        _check_partners("mask", mask_files, "image", image_files)
        both = np.intersect1d(image_files.stems, mask_files.stems, assume_unique=True)
        if not len(both):
            raise UserError(f"No image in {images} has a mask in {masks}.", kind="missing-partner")
        image_files, mask_files = (files.take(files.find(both)) for files in (image_files, mask_files))
    return Pairs.of(image_files, mask_files)


def first_of(names: Collection[str] | Collection[int], count: int = 3) -> str:
    """For messages: the first `count` names in sorted order, each as `one_line`, with "..." if there are more."""
    shown = ", ".join(one_line(str(name), _SHOWN_LETTERS) for name in heapq.nsmallest(count, names))
    return f"{shown}, ..." if len(names) > count else shown


def contents(folder: Path) -> str:
    """For messages: the first names in a folder, or "nothing"."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(".")]
    return first_of(names, 8) if names else "nothing"


def instead_of(expected: str, *folders: Path) -> str:
    """The end of a message: the layout that was expected, and what one of the folders looks like instead."""
    meaning = next(filter(None, map(recognised, folders)), "")
    return f"Expected: {expected}." + (f" It looks like {meaning}." if meaning else "")


def wrong_layout(folder: Path, expected: str) -> UserError:
    """The error for a folder with another layout than a reader expects."""
    return UserError(f"{folder} holds {contents(folder)}. {instead_of(expected, folder)}", kind="layout")


def missing_folder(folder: Path, expected: str) -> UserError:
    """The error for a missing folder, with the contents of the nearest existing folder above it."""
    parent = next((parent for parent in folder.parents if parent.is_dir()), None)
    if parent is None:
        return UserError(f"There is no folder {folder}. Expected: {expected}.", kind="layout")
    layout = instead_of(expected, parent, parent.parent)
    return UserError(
        f"There is no folder {folder} ({parent} holds {contents(parent)}). {layout}", kind="layout"
    )


def evenly_spaced(length: int, count: int) -> list[int]:
    """At most `count` evenly spaced indices below `length`, the first and the last among them."""
    if length <= count:
        return list(range(length))
    return [round(step * (length - 1) / max(count - 1, 1)) for step in range(count)]


def _scan(folder: Path, endings: Collection[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Stems and endings of the files with one of the endings, in the file system's order."""
    stems: list[bytes] = []
    found: list[bytes] = []
    known: dict[bytes, bytes] = {}  # one object for each ending, instead of one for each file
    try:
        with os.scandir(os.fsencode(folder)) as entries:
            for entry in entries:
                stem, _, ending = entry.name.rpartition(b".")
                wanted = stem and not stem.startswith(b".") and ending.lower() in endings
                if wanted and entry.is_file():
                    stems.append(stem)
                    found.append(known.setdefault(ending, ending))
    except OSError as error:
        raise UserError(f"{folder} cannot be listed: {error.strerror}. Allow reading it.") from error
    return np.array(stems, dtype="S"), np.array(found, dtype="S")


def _composed(stems: np.ndarray) -> np.ndarray:
    """The names in composed form; the same array where nothing changes."""
    if stems.view(np.uint8).max() < 128:  # ASCII, as nearly always
        return stems
    names = encode_names(composed(decode_name(stem)) for stem in stems.tolist())
    return stems if np.array_equal(names, stems) else names


def _check_partners(kind: str, files: Listing, other_kind: str, other: Listing) -> None:
    alone = Names(np.setdiff1d(files.stems, other.stems, assume_unique=True))
    if len(alone):
        cure = _renaming(list(Names(files.stems)), list(Names(other.stems)))
        refuse(
            UserError(
                f"{len(alone)} of {len(files)} {kind}s in {files.folder} have no {other_kind} of the same name in "
                f"{other.folder} ({first_of(alone)}): "
                + (f"{cure}." if cure else f"add the {other_kind}s or remove the {kind}s."),
                kind="missing-partner",
                names=alone,
            )
        )


def _renaming(names: list[str], others: list[str]) -> str:
    """What makes the others' names those of `names`, where they all differ in one ending or beginning; else ""."""
    end, other_end = _odd_ends(names, others)
    if {name.removesuffix(end) for name in names} == {name.removesuffix(other_end) for name in others}:
        return f"the names end in '{end}' here and '{other_end}' there, rename them alike"
    backwards = [name[::-1] for name in names], [name[::-1] for name in others]
    start, other_start = (end[::-1] for end in _odd_ends(*backwards))
    if {name.removeprefix(start) for name in names} == {name.removeprefix(other_start) for name in others}:
        return f"the names begin with '{start}' here and '{other_start}' there, rename them alike"
    return ""


def _odd_ends(names: list[str], others: list[str]) -> tuple[str, str]:
    """The longest common ending of each, without what both endings begin with."""
    ends = [_common_start(name[::-1] for name in each)[::-1] for each in (names, others)]
    shared = len(_common_start(ends))
    return ends[0][shared:], ends[1][shared:]


def _common_start(texts: Iterable[str]) -> str:
    return os.path.commonprefix(list(texts))  # noqa: RUF071 - of characters, not of folders
