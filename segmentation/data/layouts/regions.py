"""A file for each object: ID/images/ID.png with ID/masks/*.png (Data Science Bowl 2018)."""

import hashlib
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from segmentation.data.binary_masks import BinaryMask
from segmentation.data.dataset import WHOLE, FileDataset, FoundFiles
from segmentation.data.files import (
    ENDINGS,
    Names,
    encode_names,
    first_of,
    listing_of,
    missing_folder,
    wrong_layout,
)
from segmentation.data.layouts.pairs import walk
from segmentation.errors import UserError
from segmentation.types import Classes

_EXPECTED = "a folder for each image, with images/NAME.png and one file in masks/ for each object"
_DECODER = BinaryMask(threshold=0)


@dataclass(frozen=True, eq=False)
class RegionFiles:
    """The union of the files in a folder for each image."""

    root: Path
    folders: np.ndarray  # encoded paths in root

    def path(self, index: int) -> Path:
        """The folder."""
        return self.root / Names(self.folders)[index]

    def mask(self, index: int, size: tuple[int, int]) -> np.ndarray:
        """1 where any of the files is not 0. Raises `UserError` as `BinaryMask.decode`, and for different sizes."""
        union = np.zeros(size, np.uint8)
        for path in self._files(index):
            region = _DECODER.decode(path)
            if region.shape != size:
                return region  # the caller reports the size
            union |= region
        return union

    def take(self, indices: np.ndarray) -> "RegionFiles":
        """The folders at these indices."""
        return replace(self, folders=self.folders[indices])

    def fingerprint(self) -> str:
        """The sizes and modification times of all files."""
        state = hashlib.sha256()
        for index in range(len(self.folders)):
            for path in self._files(index):
                status = path.stat()
                state.update(f"{path.name}\0{status.st_size} {status.st_mtime_ns}\0".encode(errors="replace"))
        return state.hexdigest()

    def _files(self, index: int) -> list[Path]:
        """The files; none for an image without objects."""
        paths = sorted(self.path(index).glob("*.*"))
        return [path for path in paths if path.suffix[1:].lower() in ENDINGS]


def regions(*, root: Path) -> FoundFiles:
    """Two classes, background and foreground; an image whose masks/ is empty is background.

    Raises `UserError` for another layout, for a folder without masks/ and for one with several images.
    """
    if not root.is_dir():
        raise missing_folder(root, _EXPECTED)
    if not any(root.glob("*/images")):
        raise wrong_layout(root, _EXPECTED)
    images = [file.path for file in walk(root) if file.folder.split("/")[1:] == ["images"]]
    folders = [path.split("/")[0] for path in images]
    without = [folder for folder in folders if not (root / folder / "masks").is_dir()]
    several = [folder for folder, after in pairwise(folders) if folder == after]
    for wrong, what, cure in (
        (without, "have no masks/", "add it"),
        (several, "hold several images", "keep one in each"),
    ):
        if wrong:
            raise UserError(
                f"{len(wrong)} of {len(folders)} folders in {root} {what} ({first_of(wrong)}): {cure}."
            )
    masks = RegionFiles(root, encode_names(f"{folder}/masks" for folder in folders))
    classes = Classes(("background", "foreground"), binary=True)
    return FoundFiles(classes, {WHOLE: FileDataset(listing_of(root, images), masks)})
