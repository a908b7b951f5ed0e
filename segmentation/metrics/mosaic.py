"""Objects of images that lie side by side, such as the blocks of a scene: each is counted once, and matched whole.

Of an image only numbers are kept: the measures of its objects, how many pixels truth and prediction share, and which
object each pixel at the image's border belongs to. Those that touch across a border are pieces of one object, and
their numbers add up. So memory depends on objects and borders, not on areas, and the result is exactly that of the
whole scene as one image.

A watershed needs whole regions. The pixels of those that reach a border are kept, compressed, and parted in the end.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from segmentation.components import Objects, find_objects, in_order
from segmentation.metrics.objects import Found, Matched, ObjectRules, Row, classes_present, find
from segmentation.types import IGNORE_INDEX, Area, Classes

_LARGEST = 2**26
"""Pixels of the box of a region that is parted as a whole: a larger one is parted image by image."""
_TRUE, _PREDICTED, _IGNORED = 1, 2, 4  # the bits of the pixels that are kept
_NOWHERE = np.zeros((0, 3), np.int64)


@dataclass(frozen=True)
class Piece:
    """The objects of one class in an image, with boxes and centroids in the scene's pixels, without their pixels.

    `image` is the index in the split. `borders` has for truth, prediction and regions (B, 3) the pixels at the image's
    border: row, column, and index of the object.
    """

    image: int
    scene: int
    found: Found
    borders: tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Region:
    """Connected pixels that are of a class in truth or prediction and reach the border of an image, compressed."""

    image: int
    label: int
    box: Area
    pixels: bytes
    border: np.ndarray

    def bits(self) -> np.ndarray:
        """uint8 (H, W): what each pixel of the box is."""
        return np.frombuffer(zlib.decompress(self.pixels), np.uint8).reshape(self.box.size)


def pieces(
    image: int,
    area: Area,
    truth_HW: np.ndarray,
    predicted_HW: np.ndarray,
    classes: Classes,
    rules: ObjectRules,
) -> Iterator[Piece | Region]:
    """What is kept of an image: truth uint8 (255 is ignore), prediction uint8."""
    ignored_HW = truth_HW == IGNORE_INDEX
    for label in classes_present(truth_HW, predicted_HW, classes):
        layers = truth_HW == label, predicted_HW == label, ignored_HW
        if rules.watershed:
            open_HW = np.zeros(truth_HW.shape, bool)
            yield from _regions(image, area, label, *layers, open_HW)
            layers = layers[0] & ~open_HW, layers[1] & ~open_HW, ignored_HW
        yield _piece(image, area, find(label, *layers, rules), borders=not rules.watershed)


def _regions(
    image: int,
    area: Area,
    label: int,
    truth_HW: np.ndarray,
    predicted_HW: np.ndarray,
    ignored_HW: np.ndarray,
    open_HW: np.ndarray,
) -> Iterator[Region]:
    """The regions that reach the border; `open_HW` becomes true where they are."""
    whole = find_objects(truth_HW | predicted_HW)
    border = _border(whole.labels, area)
    for number in np.unique(border[:, 2]).tolist():
        left, top, width, height = whole.boxes[number].tolist()
        part = slice(top, top + height), slice(left, left + width)
        own_HW = whole.labels[part] == number + 1
        open_HW[part] |= own_HW
        bits_HW = sum(
            (layer_HW[part] & own_HW) * np.uint8(bit)
            for layer_HW, bit in ((truth_HW, _TRUE), (predicted_HW, _PREDICTED), (ignored_HW, _IGNORED))
        )
        top, left = top + area.top, left + area.left
        pixels = zlib.compress(np.asarray(bits_HW, np.uint8).tobytes(), 1)
        box = Area(area.scene, top, left, top + height, left + width)
        yield Region(image, label, box, pixels, border[border[:, 2] == number] * np.array([1, 1, 0]))


def _piece(image: int, area: Area, found: Found, *, borders: bool) -> Piece:
    objects = found.truth, found.prediction, found.regions
    at = [_border(each.labels, area) if borders else _NOWHERE for each in objects]
    moved = [
        Objects(
            np.zeros((0, 0), np.int32),
            each.areas.astype(np.int64),
            each.boxes.astype(np.int64) + np.array([area.left, area.top, 0, 0]),
            each.centroids + np.array([area.left, area.top]),
        )
        for each in objects
    ]
    own = replace(found, truth=moved[0], prediction=moved[1], regions=moved[2])
    return Piece(image, area.scene, own, (at[0], at[1], at[2]))


def _border(labels_HW: np.ndarray, area: Area) -> np.ndarray:
    """(B, 3): the objects' pixels at the image's border, with row and column of the scene, and index."""
    edge_HW = np.ones(labels_HW.shape, bool)
    edge_HW[1:-1, 1:-1] = False
    rows, columns = np.nonzero(edge_HW & (labels_HW > 0))
    return np.column_stack([rows + area.top, columns + area.left, labels_HW[rows, columns] - 1]).astype(
        np.int64
    )


def matched_whole(
    kept: Sequence[Piece | Region], areas: Sequence[Area], rules: ObjectRules
) -> Iterator[tuple[Matched, list[tuple[int, Row]]]]:
    """The objects of each scene and class, and their rows, each with the image that holds most of the object.

    `areas` are those of all images. Boxes and centroids are in the scene's pixels.
    """
    found = [each for each in kept if isinstance(each, Piece)]
    found += _parted([each for each in kept if isinstance(each, Region)], _extents(areas), rules)

    def key(piece: Piece) -> tuple[int, int]:
        return piece.scene, piece.found.label

    for _, group in groupby(sorted(found, key=key), key):
        own = sorted(group, key=lambda piece: piece.image)
        joined, homes = _joined(own)
        objects = joined.matched(rules)
        yield objects, [(homes[side][index], row) for row, (side, index) in _sides(objects)]


def _sides(objects: Matched) -> Iterator[tuple[Row, tuple[int, int]]]:
    """The rows, each with the side and the index of the object whose box it has."""
    kinds = objects.kinds()
    shown = [
        *((0, index) for index in objects.pairs[kinds["match"], 0].tolist()),
        *((0, index) for index in kinds["miss"].tolist()),
        *((1, index) for index in kinds["false_alarm"].tolist()),
    ]
    return zip(objects.rows(), shown, strict=True)


def _joined(own: Sequence[Piece]) -> tuple[Found, tuple[list[int], list[int]]]:
    """The objects of a scene from their pieces, and the image of each true and each predicted one."""
    sides = [_Side.of(own, number) for number in range(3)]
    truth, prediction, regions = sides
    shifted = [
        piece.found.shared + np.array([first, second, 0])
        for piece, first, second in zip(own, truth.starts, prediction.starts, strict=True)
    ]
    shared = np.concatenate(shifted).astype(np.int64)
    keys = truth.whole[shared[:, 0]] * max(1, len(prediction.objects)) + prediction.whole[shared[:, 1]]
    keys, pair = np.unique(keys, return_inverse=True)
    both = _sums(pair.ravel(), shared[:, 2], len(keys))
    came_from = np.zeros(len(prediction.objects), np.int64)
    of_piece = np.concatenate(
        [piece.found.came_from + first for piece, first in zip(own, regions.starts, strict=True)]
    )
    came_from[prediction.whole] = regions.whole[of_piece.astype(np.int64)]
    found = Found(
        own[0].found.label,
        truth.objects,
        prediction.objects,
        np.stack([*np.divmod(keys, max(1, len(prediction.objects))), both], axis=1),
        regions.objects,
        _sums(
            regions.whole,
            np.concatenate([piece.found.ignored for piece in own]),
            len(regions.objects),
        ),
        came_from,
    )
    return found, (truth.images, prediction.images)


@dataclass(frozen=True)
class _Side:
    """Truth, prediction or regions of a scene: the objects, and which of them each piece belongs to.

    `starts` are the numbers of each image's first pieces, `images` those that hold most of each object.
    """

    objects: Objects
    whole: np.ndarray
    starts: list[int]
    images: list[int]

    @classmethod
    def of(cls, own: Sequence[Piece], number: int) -> "_Side":
        parts = [(piece.found.truth, piece.found.prediction, piece.found.regions)[number] for piece in own]
        starts = np.cumsum([0, *map(len, parts)])
        border = [
            piece.borders[number] + np.array([0, 0, start])
            for piece, start in zip(own, starts[:-1], strict=True)
        ]
        whole, count = _wholes(np.concatenate(border), int(starts[-1]))
        piece_areas = np.concatenate([part.areas for part in parts])
        areas = _sums(whole, piece_areas, count)
        boxes = np.concatenate([part.boxes for part in parts])
        low, high = np.full((count, 2), np.iinfo(np.int64).max), np.zeros((count, 2), np.int64)
        np.minimum.at(low, whole, boxes[:, :2])
        np.maximum.at(high, whole, boxes[:, :2] + boxes[:, 2:])
        # The sums of the coordinates are whole numbers, which centroids give back exactly.
        sums = np.rint(np.concatenate([part.centroids for part in parts]) * piece_areas[:, None])
        centroids = np.column_stack([np.bincount(whole, axis, count) for axis in sums.T]) / areas[:, None]
        boxes = np.concatenate([low, high - low], axis=1)
        order = in_order(areas, boxes, centroids)
        place = np.empty(count, np.int64)
        place[order] = np.arange(count)
        whole = place[whole]
        images = np.repeat([piece.image for piece in own], list(map(len, parts)))
        largest = np.lexsort((images, -piece_areas, whole))
        _, first = np.unique(whole[largest], return_index=True)
        objects = Objects(np.zeros((0, 0), np.int32), areas[order], boxes[order], centroids[order])
        return cls(objects, whole, starts[:-1].tolist(), images[largest[first]].tolist())


def _sums(index: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """int64 (count,): the sums of whole numbers by their index."""
    total = np.zeros(count, np.int64)
    np.add.at(total, index, values)
    return total


def _wholes(border: np.ndarray, count: int) -> tuple[np.ndarray, int]:
    """(count,): the number of the object to which each piece belongs, and how many these are.

    Pieces are of one object if pixels of their `border` (B, 3), row, column and piece, touch at a side or a corner.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows, columns, piece = border.T
    stride = (
        int(columns.max(initial=0)) + 2
    )  # so that a row's last pixel is no neighbour of the next one's first
    keys = rows * stride + columns
    order = np.argsort(keys)
    keys, piece = keys[order], piece[order]
    edges = [np.zeros((2, 0), np.int64)]
    for step in (1, stride - 1, stride, stride + 1):
        place = np.searchsorted(keys, keys + step)
        near = np.flatnonzero(place < len(keys))
        near = near[keys[place[near]] == keys[near] + step]
        edges.append(np.stack([piece[near], piece[place[near]]]))
    one, other = np.concatenate(edges, axis=1)
    graph = coo_array((np.ones(len(one), bool), (one, other)), shape=(count, count))
    found, number = connected_components(graph, directed=False)
    return number.astype(np.int64), int(found)


def _extents(areas: Sequence[Area]) -> dict[int, Area]:
    """The box around all areas of each scene."""
    found: dict[int, Area] = {}
    for area in areas:
        scene, top, left, bottom, right = found.get(area.scene, area)
        least, most = (
            (min(top, area.top), min(left, area.left)),
            (max(bottom, area.bottom), max(right, area.right)),
        )
        found[scene] = Area(scene, *least, *most)
    return found


def _parted(regions: Sequence[Region], extents: Mapping[int, Area], rules: ObjectRules) -> Iterator[Piece]:
    """The objects of regions that reach borders, put together and parted."""
    by_class: dict[tuple[int, int], list[Region]] = {}
    for region in regions:
        by_class.setdefault((region.box.scene, region.label), []).append(region)
    for own in by_class.values():
        border = np.concatenate(
            [region.border + np.array([0, 0, number]) for number, region in enumerate(own)]
        )
        whole, count = _wholes(border, len(own))
        order = np.argsort(whole, kind="stable")
        for group in np.split(order, np.searchsorted(whole[order], np.arange(1, count))):
            yield from _parted_whole([own[number] for number in group.tolist()], extents, rules)


def _parted_whole(
    group: Sequence[Region], extents: Mapping[int, Area], rules: ObjectRules
) -> Iterator[Piece]:
    scene, *_ = group[0].box
    _, top, left, bottom, right = _extents([region.box for region in group])[scene]
    within = extents[scene]
    # A pixel around, which is outside of the region, but where nothing is known.
    top, left = max(top - 1, within.top), max(left - 1, within.left)
    box = Area(scene, top, left, min(bottom + 1, within.bottom), min(right + 1, within.right))
    if len(group) > 1 and box.size[0] * box.size[1] > _LARGEST:
        for region in group:
            yield from _parted_whole([region], extents, rules)
        return
    bits_HW = np.zeros(box.size, np.uint8)
    for region in group:
        rows, columns = (
            slice(start - first, stop - first)
            for first, start, stop in (
                (top, region.box.top, region.box.bottom),
                (left, region.box.left, region.box.right),
            )
        )
        bits_HW[rows, columns] |= region.bits()
    true_HW, predicted_HW, ignored_HW = (bits_HW & bit > 0 for bit in (_TRUE, _PREDICTED, _IGNORED))
    found = find(group[0].label, true_HW, predicted_HW, ignored_HW, rules)
    image = max(group, key=lambda region: (np.count_nonzero(region.bits()), -region.image)).image
    yield _piece(image, box, found, borders=False)
