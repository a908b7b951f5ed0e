"""The objects of an evaluation: their table, and the images with the most errors, outlined for the page."""

import csv
import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from segmentation.components import Objects
from segmentation.metrics.mosaic import Piece, Region, matched_whole, pieces
from segmentation.metrics.objects import Kind, ObjectMetrics, Row, matched, tally
from segmentation.report.evaluation import Evaluation, ImageScores
from segmentation.report.gallery import ReadImage, page_size, photo_uri
from segmentation.types import Area, Classes
from segmentation.writing import replacing

_COLUMNS = (
    *("image", "class", "kind", "true_area", "predicted_area", "iou"),
    *("left", "top", "width", "height", "x", "y"),
)
_NOTE = (
    "An object across images of one scene is counted once, whole, in the image that holds most of it; the pictures of"
    " objects show each image alone."
)
# File names need not be UTF-8: Python keeps their other bytes as surrogates.
_CSV: dict[str, Any] = {"newline": "", "encoding": "utf-8", "errors": "surrogateescape"}


@dataclass(frozen=True)
class ObjectPart:
    """What a process counted, and what it kept of images that lie side by side in a scene."""

    metrics: ObjectMetrics
    kept: list[Piece | Region]


class ObjectTable:
    """Counts of objects, and `objects.csv`: each process writes a part as images come, and the first joins them.

    `areas` say of each image where it lies in a scene, if it does: an object across images of one scene is counted
    once, by the first process in the end.
    """

    def __init__(
        self, folder: Path, process: int, metrics: ObjectMetrics, areas: Sequence[Area | None] = ()
    ) -> None:
        self.metrics = metrics
        images = Counter(area.scene for area in areas if area is not None)
        self._areas = {
            index: area for index, area in enumerate(areas) if area is not None and images[area.scene] > 1
        }
        self._kept: list[Piece | Region] = []
        self.notes = (_NOTE,) if self._areas else ()
        self._folder = folder
        self._process = process

    def __enter__(self) -> "ObjectTable":
        self._file = self._part(self._process).open("w", **_CSV)
        self._writer = csv.writer(self._file)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._file.close()
        if kind is not None:
            self._part(self._process).unlink()

    def add(self, index: int, name: str, truth_HW: np.ndarray, predicted_HW: np.ndarray) -> dict[str, int]:
        """Counts and writes the objects of an image, whose index is higher than those before; returns their `tally`.

        That of an image beside others is empty until `join`.
        """
        if index in self._areas:
            rules = self.metrics.classes, self.metrics.rules
            self._kept += pieces(index, self._areas[index], truth_HW, predicted_HW, *rules)
            return {}
        rows = self.metrics.update(truth_HW, predicted_HW)
        self._writer.writerows(self._cells(index, name, rows))
        return tally(rows)

    def _cells(self, index: int, name: str, rows: Iterable[Row]) -> Iterable[list[Any]]:
        for row in rows:
            areas = ("" if area is None else area for area in (row.true_area, row.predicted_area))
            centroid = (f"{place:.2f}" for place in row.centroid)
            what = (self.metrics.classes.names[row.label], row.kind)
            yield [index, name, *what, *areas, f"{row.iou:.6g}", *row.box, *centroid]

    @property
    def part(self) -> ObjectPart:
        """What this process has for `join`."""
        return ObjectPart(self.metrics, self._kept)

    def join(
        self, parts: Sequence[ObjectPart], images: list[ImageScores]
    ) -> tuple[ObjectMetrics, list[ImageScores]]:
        """The counts of all processes, and their images with every `tally`, given to the first.

        It writes the table in the split's order. The parts of the table have ended, and are removed. Elsewhere `parts`
        is empty, and nothing is written.
        """
        together = ObjectMetrics(self.metrics.classes, self.metrics.rules)
        for part in parts:
            together.add(part.metrics)
        rows: dict[int, list[Row]] = {index: [] for index in self._areas}
        kept = [each for part in parts for each in part.kept]
        for objects, found in matched_whole(kept, list(self._areas.values()), together.rules):
            together.count(objects)
            for index, row in found:
                rows[index].append(_seen_from(row, self._areas[index]))
        names = {image.index: image.name for image in images}
        across = [
            cell for index in sorted(rows) for cell in self._cells(index, names.get(index, ""), rows[index])
        ]
        paths = [self._part(process) for process in range(len(parts))]
        if paths:
            with ExitStack() as stack:
                readers = [csv.reader(stack.enter_context(path.open(**_CSV))) for path in paths]
                file = stack.enter_context(replacing(self._folder / "objects.csv", **_CSV))
                writer = csv.writer(file)
                writer.writerow(_COLUMNS)
                lines = heapq.merge(*readers, across, key=lambda row: int(row[0]))
                writer.writerows(row[1:] for row in lines)
        for path in paths:
            path.unlink()
        return together, [
            replace(image, objects=tally(rows[image.index])) if image.index in rows else image
            for image in images
        ]

    def _part(self, process: int) -> Path:
        return self._folder / f"objects.csv.{process}"


def _seen_from(row: Row, area: Area) -> Row:
    """A row of a scene in the pixels of an image; what goes on beyond has a box that does, too."""
    left, top, width, height = row.box
    x, y = row.centroid
    box = left - area.left, top - area.top, width, height
    return row._replace(box=box, centroid=(x - area.left, y - area.top))


SIDE = 640
"""Longest side of a picture with outlines, in pixels: objects are smaller than images."""
WORST = 8
"""Number of images shown."""
OUTLINES = 400
"""Of each kind, the largest that are drawn in an image: more would hide each other."""
BUDGET = 3_000_000
"""Largest size of all pictures with their outlines, in bytes; the first image is shown in any case."""


@dataclass(frozen=True)
class Outline:
    """An object's outline as the data of an SVG path, its kind and what it is in words."""

    kind: Kind
    path: str
    text: str


@dataclass(frozen=True)
class ObjectCard:
    """An image with its counts, and its picture as a data URI with the outlines to draw on it.

    `left_out` is the number of outlines that are not drawn.
    """

    scores: ImageScores
    place: int
    width: int
    height: int
    photo: str
    outlines: list[Outline]
    left_out: int


def most_errors(images: Sequence[ImageScores]) -> list[ImageScores]:
    """The `WORST` images by misses and false alarms together, then by name; those without any are left out."""

    def errors(image: ImageScores) -> int:
        return image.objects["misses"] + image.objects["false_alarms"]

    return sorted(filter(errors, images), key=lambda image: (-errors(image), image.name))[:WORST]


def object_cards(evaluation: Evaluation, read_image: ReadImage) -> list[ObjectCard]:
    """The images with `most_errors`, read and predicted again; none for an evaluation without objects."""
    if evaluation.objects is None:
        return []
    cards: list[ObjectCard] = []
    spent = 0
    for place, image in enumerate(most_errors(evaluation.images), 1):
        picture, truth_HW, predicted_HW = read_image(image.index)
        found = [
            (row, shown)
            for objects in matched(truth_HW, predicted_HW, evaluation.classes, evaluation.objects)
            for row, shown in zip(objects.rows(), objects.shown(), strict=True)
        ]
        size = page_size(truth_HW, SIDE)
        outlines, left_out = _outlines(found, size[0] / truth_HW.shape[1], evaluation.classes)
        card = ObjectCard(image, place, *size, photo_uri(picture, size), outlines, left_out)
        # The page has each path twice.
        spent += len(card.photo) + sum(2 * len(line.path) + len(line.text) for line in outlines)
        if cards and spent > BUDGET:
            break
        cards.append(card)
    return cards


def _outlines(
    found: list[tuple[Row, tuple[Objects, int]]], scale: float, classes: Classes
) -> tuple[list[Outline], int]:
    """The largest `OUTLINES` of each kind, errors above matches; and how many are left out."""
    outlines = []
    kinds: tuple[Kind, ...] = ("match", "miss", "false_alarm")
    for kind in kinds:
        own = [(row, shown) for row, shown in found if row.kind == kind]
        own.sort(key=lambda one: -(one[0].true_area or one[0].predicted_area or 0))
        outlines += [
            Outline(kind, _path(*shown, scale), _words(row, classes)) for row, shown in own[:OUTLINES]
        ]
    return outlines, len(found) - len(outlines)


def _path(objects: Objects, index: int, scale: float) -> str:
    """The outlines of an object and of its holes, in the page's pixels."""
    left, top, width, height = objects.boxes[index].tolist()
    region_HW = (objects.labels[top : top + height, left : left + width] == index + 1).astype(np.uint8)
    contours, _ = cv2.findContours(region_HW, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=(left, top))
    parts = []
    for contour in contours:
        points = (cv2.approxPolyDP(contour, 0.5 / scale, True)[:, 0] + 0.5) * scale
        parts.append("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points.tolist()) + "Z")
    return "".join(parts)


def _words(row: Row, classes: Classes) -> str:
    told = f"{classes.names[row.label]}, {row.kind.replace('_', ' ')}"
    areas = (("true", row.true_area), ("predicted", row.predicted_area))
    sizes = ", ".join(f"{area:,} pixels {side}" for side, area in areas if area is not None)
    return f"{told}: {sizes}, IoU {row.iou:.2f}"
