"""Labels that are shapes, polygons and regions, in a few arrays for all images, and drawn when a mask is read.

A million shapes as Python objects would take gigabytes, in each loader process again; see `files.py`.

A pixel belongs to a polygon if its centre lies inside by the even-odd rule; coordinates count from the upper left
corner of the image, so that the first centre is (0.5, 0.5). `cv2.fillPoly` and Pillow's `ImageDraw.polygon` also fill
each pixel that the outline touches. That adds half a pixel on each side, 45 to 50 % to an object with a radius of 4.
"""

import hashlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from segmentation.data.class_names import UNUSED
from segmentation.data.files import Listing
from segmentation.types import IGNORE_INDEX

OVERLAPS = "Where shapes overlap, the smaller one lies over the larger."
"""The note of every layout whose shapes have no order of their own."""

_POLYGON, _ROWS, _COLUMNS = range(3)
_SHAPE = np.dtype([("start", "i8"), ("count", "i4"), ("kind", "u1"), ("label", "u1")])
_BOX = 4  # left, top, width and height come before the runs of a region


class Shapes:
    """Collects the shapes of images, in any order. `names` are the names of the labels in the order of their codes."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._codes = {name: code for code, name in enumerate(names)}
        self._points, self._runs = array("f"), array("i")
        self._columns: dict[str, array[Any]] = {
            name: array(code) for name, code in zip(_COLUMN_TYPES, _COLUMN_TYPES.values(), strict=True)
        }

    @property
    def names(self) -> list[str]:
        """The names of all labels."""
        return list(self._codes)

    def __len__(self) -> int:
        return len(self._columns["image"])

    def add_polygons(
        self, image: int, name: str, rings: Sequence[np.ndarray], *, order: float = 0, ignored: bool = False
    ) -> None:
        """The union of rings, each (P, 2) of x and y. Shapes of a higher `order` lie over others."""
        area = sum(map(_area, rings))
        for ring in rings:
            start = len(self._points) // 2
            self._points.frombytes(np.ascontiguousarray(ring, np.float32).tobytes())
            self._add(image, name, start, len(ring), _POLYGON, order, area, ignored)

    def add_region(
        self,
        image: int,
        name: str,
        runs: np.ndarray,
        box: tuple[int, int, int, int],
        *,
        columns: bool = False,
        order: float = 0,
        ignored: bool = False,
    ) -> None:
        """A region in a `box` (left, top, width, height).

        `runs` are the lengths of the runs of pixels outside and inside in turn, by rows or columns; they fill the box.
        """
        start = len(self._runs)
        self._runs.extend(box)
        self._runs.frombytes(np.ascontiguousarray(runs, np.int32).tobytes())
        kind = _COLUMNS if columns else _ROWS
        self._add(image, name, start, len(runs), kind, order, float(runs[1::2].sum()), ignored)

    def _add(self, image: int, name: str, *values: float) -> None:
        row = (image, self._codes.setdefault(name, len(self._codes)), *values)
        for column, value in zip(self._columns.values(), row, strict=True):
            column.append(value)

    def drawings(
        self,
        files: Listing | Path,
        sizes: np.ndarray,
        labels: Mapping[str, int],
        unlabelled: int,
        *,
        relative: bool = False,
    ) -> "Drawings":
        """The labels of `len(sizes)` images, in the order of the numbers that they were added with.

        `labels` are the labels of the names, or `UNUSED`; the others are as in `Drawings`.
        """
        columns = {name: np.array(column) for name, column in self._columns.items()}
        label = np.array([labels[name] for name in self._codes], np.int64)[columns["code"]]
        keys = -columns["area"], columns["order"], columns["image"]
        order = np.lexsort(keys)
        order = order[label[order] != UNUSED]
        table = np.empty(len(order), _SHAPE)
        for field in ("start", "count", "kind"):
            table[field] = columns[field][order]
        table["label"] = np.where(columns["ignored"], IGNORE_INDEX, label)[order]
        ends = np.searchsorted(columns["image"][order], np.arange(len(sizes) + 1))
        return Drawings(
            files,
            table,
            np.stack([ends[:-1], ends[1:]], 1),
            np.array(self._points).reshape(-1, 2),
            np.array(self._runs),
            sizes,
            unlabelled,
            relative,
        )


_COLUMN_TYPES = {
    "image": "q",
    "code": "i",
    "start": "q",
    "count": "i",
    "kind": "b",
    "order": "d",
    "area": "d",
    "ignored": "b",
}


@dataclass(frozen=True, eq=False)
class Drawings:
    """The shapes of each image, later ones over earlier ones.

    `files` are the annotation files of the images, or one for all. `sizes` (N, 2) are the heights and widths that they
    record, 0 where they do not. Pixels outside all shapes get the label `unlabelled`. With `relative` points are
    fractions of the image's width and height.
    """

    files: Listing | Path
    shapes: np.ndarray  # of all images: `_SHAPE`
    ranges: np.ndarray  # (N, 2): the first of each image's, and the one after its last
    points: np.ndarray  # float32 (P, 2): x and y
    runs: np.ndarray  # int32: box and runs of each region
    sizes: np.ndarray
    unlabelled: int
    relative: bool = False

    def path(self, index: int) -> Path:
        """The annotation file."""
        return self.files if isinstance(self.files, Path) else self.files.path(index)

    def mask(self, index: int, size: tuple[int, int]) -> np.ndarray:
        """The drawn shapes; if the file records another size than `size`, an empty mask of that size."""
        height, width = (int(recorded) or own for recorded, own in zip(self.sizes[index], size, strict=True))
        if (height, width) != size:
            # It takes no memory, whatever a damaged file records.
            return np.broadcast_to(np.uint8(self.unlabelled), (height, width))
        mask = np.full(size, self.unlabelled, np.uint8)
        first, end = self.ranges[index]
        for start, count, kind, label in self.shapes[first:end].tolist():
            if kind == _POLYGON:
                points = self.points[start : start + count].astype(np.float64)
                fill_polygon(mask, points * (width, height) if self.relative else points, label)
            else:
                runs = self.runs[start : start + _BOX + count]
                _fill_region(mask, runs[_BOX:], runs[:_BOX].tolist(), label, columns=kind == _COLUMNS)
        return mask

    def take(self, indices: np.ndarray) -> "Drawings":
        """The labels of the images at these indices; all shapes are shared."""
        files = self.files if isinstance(self.files, Path) else self.files.take(indices)
        return replace(self, files=files, ranges=self.ranges[indices], sizes=self.sizes[indices])

    def fingerprint(self) -> str:
        """A hash of all that is drawn."""
        content = hashlib.sha256(f"{self.unlabelled} {self.relative}".encode())
        for part in (self.shapes, self.ranges, self.points, self.runs, self.sizes):
            content.update(np.ascontiguousarray(part).data)
        return content.hexdigest()


def fill_polygon(mask: np.ndarray, points: np.ndarray, label: int) -> None:
    """Sets the pixels of a mask (H, W) whose centres lie in a polygon of points (P, 2), which may cross itself."""
    height, width = mask.shape
    start = points - 0.5  # the centres are at whole numbers
    end = np.roll(start, -1, axis=0)
    down = start[:, 1:] <= end[:, 1:]
    (x, y), (x2, y2) = np.where(down, start, end).T, np.where(down, end, start).T
    first = np.ceil(y).clip(0, height).astype(np.int64)
    count = np.ceil(y2).clip(0, height).astype(np.int64) - first  # of rows whose centres an edge crosses
    edge = np.repeat(np.arange(len(count)), count)
    if not len(edge):
        return
    row = np.arange(len(edge)) - np.repeat(count.cumsum() - count, count) + first[edge]
    crossing = x[edge] + (row - y[edge]) * (x2 - x)[edge] / (y2 - y)[edge]
    column = np.ceil(crossing).clip(0, width).astype(np.int64)
    left, top, right, bottom = column.min(), row.min(), column.max(), row.max() + 1
    # Each row is crossed an even number of times, so inside and outside alternate through all rows.
    changes = np.sort((row - top) * (right - left) + column - left)
    runs = np.diff(changes, prepend=0, append=(bottom - top) * (right - left))
    _fill_region(mask, runs, (left, top, right - left, bottom - top), label)


def _fill_region(
    mask: np.ndarray, runs: np.ndarray, box: Sequence[int], label: int, *, columns: bool = False
) -> None:
    left, top, width, height = box
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    inside = flat.reshape(width, height).T if columns else flat.reshape(height, width)
    inside = inside[max(-top, 0) :, max(-left, 0) :]
    part = mask[max(top, 0) :, max(left, 0) :][: inside.shape[0], : inside.shape[1]]
    np.copyto(part, label, where=inside[: part.shape[0], : part.shape[1]])


def _area(ring: np.ndarray) -> float:
    """The area of a ring by the shoelace formula, which is less where it crosses itself."""
    if not len(ring):
        return 0
    x, y = np.asarray(ring, np.float64).T
    last = x[-1] * y[0] - x[0] * y[-1]
    return abs(float(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1]) + last)) / 2
