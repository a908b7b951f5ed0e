"""What the readers of annotation files share: collecting images and shapes, and checking what a stranger wrote."""

import math
import os
import posixpath
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from segmentation.data.class_map import ClassOptions
from segmentation.data.class_names import named_classes
from segmentation.data.dataset import WHOLE, FileDataset, FoundFiles
from segmentation.data.drawings import OVERLAPS, Shapes
from segmentation.data.files import Names, decode_name, first_of, listing_of
from segmentation.data.layouts.pairs import walk
from segmentation.data.recognise import PARTS
from segmentation.data.splits import LONGEST_NAME, SPLITS
from segmentation.errors import UserError

Size = tuple[int, int]
UNKNOWN: Size = (0, 0)
_LONGEST_SIDE = 2**16
_FARTHEST = 1e6  # pixels
_CORNERS = 90  # of a polygon for an ellipse


class Annotated:
    """Collects the images of a data set in `root`, with their shapes."""

    def __init__(self, root: Path, names: Sequence[str] = ()) -> None:
        self.root = root
        self.shapes = Shapes(names)
        self.left_out: Counter[str] = Counter()
        """Shapes that cannot be drawn, by kind in plural."""
        self._images: list[str] = []
        self._files: list[str] = []
        self._sizes = array("i")
        self._parts: list[str] = []

    def __len__(self) -> int:
        return len(self._images)

    def add_image(self, path: str, *, size: Size = UNKNOWN, part: str = "", file: str = "") -> int:
        """The number of a new image. Its path and that of its annotation `file` are in `root`; `size` is (H, W).

        Without a `part` it is in that of the first folder called train, val or test. Raises `UserError` for a path
        without ending.
        """
        if "." not in posixpath.basename(path):
            raise UserError(
                f"the picture '{path}' has no ending, such as .jpg: give it one, also where it is listed."
            )
        self._images.append(path)
        self._files.append(file)
        self._sizes.extend(size)
        self._parts.append(part or next(filter(None, map(split_of, path.split("/")[:-1])), ""))
        return len(self._images) - 1

    def size(self, image: int) -> Size:
        """The size that was given for an image."""
        return self._sizes[2 * image], self._sizes[2 * image + 1]

    def set_size(self, image: int, size: Size) -> None:
        """Gives an image its size, where the file says it later."""
        self._sizes[2 * image], self._sizes[2 * image + 1] = size

    def add_ring(self, image: int, name: str, ring: Any, *, order: float = 0) -> None:
        """A polygon with at least three points; others are left out. Raises `UserError` as `points_of` does."""
        points = points_of(ring)
        if len(points) < 3:
            self.left_out["polygons with fewer than three points"] += 1
        else:
            self.shapes.add_polygons(image, name, [points], order=order)

    def found(
        self,
        options: ClassOptions,
        where: Path,
        *,
        names: Sequence[str] = (),
        ordered: bool = False,
        relative: bool = False,
        notes: Sequence[str] = (),
    ) -> FoundFiles:
        """All of it; images are called by their paths below the folder that all share.

        The classes are those of `names`, if given, in this order, else of the shapes' names, sorted. `where` is the
        annotation file where images have none of their own, for messages. With `ordered` shapes have an order of
        their own. Images are in parts if their folders or files say so.

        Raises `UserError` where there are no images, for two of one name, where only some images are in parts, and as
        `named_classes` does.
        """
        if not self._images:
            raise UserError(f"{where} lists no images.")
        known = list(dict.fromkeys([*names, *self.shapes.names])) if names else sorted(self.shapes.names)
        named = named_classes(options, known, self.root, str(where))
        folders = {path.rpartition("/")[0] for path in self._images}
        shared = posixpath.commonpath(folders) if all(folders) else ""
        below = len(shared) + 1 if shared else 0
        images = listing_of(self.root / shared, (path[below:] for path in self._images))
        order = np.argsort(images.stems, kind="stable")
        images = images.take(order)
        repeated = np.flatnonzero(images.stems[1:] == images.stems[:-1])
        if len(repeated):
            twice = decode_name(images.stems[repeated[0]].item())
            raise UserError(f"{where}: two images are called {twice}: rename or remove one of them.")
        files = listing_of(self.root, self._files) if all(self._files) else where
        sizes = np.array(self._sizes).reshape(-1, 2)
        labels = self.shapes.drawings(files, sizes, named.indices, named.unlabelled, relative=relative)
        whole = FileDataset(images, labels.take(order))
        part_of = np.array(self._parts)[order]
        parts = {part: whole.take(np.flatnonzero(part_of == part)) for part in SPLITS}
        parts = {part: samples for part, samples in parts.items() if len(samples)}
        divided = "train" in parts and parts.keys() & {"val", "test"}
        outside = np.flatnonzero(part_of == "")
        if divided and len(outside):
            names = first_of(Names(images.stems[outside]))
            raise UserError(
                f"{len(outside)} of {len(whole)} images in {self.root} are in none of train, val and test, but others"
                f" are ({names}): put all or none into such folders or subsets."
            )
        notes = [*notes, *named.notes, *([] if ordered else [OVERLAPS])]
        notes += [
            f"Left out because they have no area: {count} {kind}." for kind, count in self.left_out.items()
        ]
        return FoundFiles(named.classes, parts if divided else {WHOLE: whole}, tuple(notes))


def split_of(text: str) -> str:
    """train, val or test for a word that means it, such as valid or Train; else ""."""
    return PARTS.get(text.lower(), "")


@contextmanager
def at(place: str) -> Iterator[None]:
    """Puts the place before the message of a `UserError`."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{place}: {error}") from error


def value_of(item: Any, key: str, *kinds: type) -> Any:
    """The value of a key in an object of JSON. Raises `UserError` if it is missing or of none of the `kinds`."""
    if not isinstance(item, dict):
        raise UserError(f"{item!r:.60} is no object with '{key}'.")
    if key not in item:
        raise UserError(f"'{key}' is missing.")
    value = item[key]
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise UserError(f"'{key}' is {value!r:.60}, which is no {_KINDS[kinds[0]]}.")
    return value


_KINDS = {str: "text", int: "whole number", float: "number", list: "list", dict: "object"}


def id_of(item: Any, key: str, *kinds: type) -> Any:
    """A whole number, perhaps written as 17.0, or a value of the other `kinds`. Raises `UserError` for another."""
    value = value_of(item, key, int, float, *kinds)
    if isinstance(value, float):
        if not value.is_integer():
            raise UserError(f"'{key}' is {value!r}, which is no whole number.")
        return int(value)
    return value


def number_of(item: Any, key: str) -> float:
    """A number, which may be written as text, as in XML. Raises `UserError` for another value, or one far too large."""
    value = value_of(item, key, float, int, str)
    try:
        number = float(value)
    except (ValueError, OverflowError):
        number = math.nan
    if not abs(number) <= _FARTHEST:
        raise UserError(f"'{key}' is {value!r:.60}, which is no number up to {_FARTHEST:.0f}.")
    return number


def size_of(item: Any, height: str = "height", width: str = "width") -> Size:
    """The (H, W) that an object records, `UNKNOWN` if it does not. Raises `UserError` for impossible ones."""
    if item.get(height) is None or item.get(width) is None:
        return UNKNOWN
    sides = [number_of(item, key) for key in (height, width)]
    if not all(side == int(side) and 0 < side < _LONGEST_SIDE for side in sides):
        raise UserError(
            f"'{width}' and '{height}' are {sides[1]:g} and {sides[0]:g}: write the picture's size."
        )
    return int(sides[0]), int(sides[1])


def points_of(value: Any) -> np.ndarray:
    """float64 (P, 2) of pairs, or of a list of x and y in turn. Raises `UserError` for anything else."""
    try:
        points = np.asarray(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"{value!r:.60} are no points: write numbers.") from None
    if points.ndim == 1 and points.size % 2 == 0:
        points = points.reshape(-1, 2)
    if points.ndim != 2 or points.shape[1] != 2:
        raise UserError(f"{value!r:.60} are no points of x and y.")
    if not (np.abs(points) <= _FARTHEST).all():
        raise UserError(f"a point lies outside -{_FARTHEST:.0f}..{_FARTHEST:.0f}.")
    return points


def runs_of(value: Any) -> np.ndarray:
    """int64 run lengths of a list of numbers, or of texts as in XML. Raises `UserError` for others."""
    try:
        return np.array([int(run) for run in value], np.int64)
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"{value!r:.60} are no run lengths: write whole numbers.") from None


def inside(path: str) -> str:
    """A path in the data's folder, with slashes. Raises `UserError` for one that leaves the folder or can be none."""
    normal = os.path.normpath(path.replace("\\", "/"))
    if normal.startswith(("/", "../")) or normal[1:3] == ":/" or normal in ("..", ".") or "\0" in normal:
        raise UserError(f"the path '{path}' does not stay in the data's folder: write it as seen from there.")
    if any(len(part.encode(errors="replace")) > LONGEST_NAME for part in normal.split("/")):
        raise UserError(f"the path '{path:.60}...' is longer than names of files can be.")
    return normal


def pictures_by_name(root: Path) -> dict[str, list[str]]:
    """The paths in a folder of its pictures, by their file names."""
    found: dict[str, list[str]] = {}
    for file in walk(root):
        found.setdefault(posixpath.basename(file.path), []).append(file.path)
    return found


def rectangle(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """The corners of a rectangle."""
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def ellipse(x: float, y: float, radius_x: float, radius_y: float) -> np.ndarray:
    """A polygon of the area of an ellipse."""
    angles = np.arange(_CORNERS) * (2 * np.pi / _CORNERS)
    wider = (2 * np.pi / _CORNERS / np.sin(2 * np.pi / _CORNERS)) ** 0.5
    return np.stack([x + radius_x * wider * np.cos(angles), y + radius_y * wider * np.sin(angles)], 1)


def turned(points: np.ndarray, degrees: float, x: float, y: float) -> np.ndarray:
    """The points turned clockwise, as seen in the picture, around (x, y)."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return (points - (x, y)) @ np.array([[cos, sin], [-sin, cos]]) + (x, y)


def first_folder(folders: Sequence[Path], name: str) -> Path | None:
    """The first folder that holds a file."""
    return next((folder for folder in folders if (folder / name).is_file()), None)


def check_found(root: Path, missing: Sequence[str], count: int) -> None:
    """Raises `UserError` if images of the annotations are missing in a folder."""
    if missing:
        raise UserError(
            f"{len(missing)} of the {count} images that it lists are not in {root} ({first_of(missing)}): add them, or "
            "remove them from the file."
        )
