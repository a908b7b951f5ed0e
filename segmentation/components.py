"""The objects of a mask: connected regions of one class, parted at their necks if wanted, and their measures."""

from dataclasses import dataclass

import cv2
import numpy as np

CONNECTIVITY = 8
"""Pixels that touch at a side or a corner belong together: thin diagonal objects stay whole."""

_NECK = 0.75
"""`watershed` parts two bulges where the neck between them has less than this share of the narrower one's width."""
_STEP = 1.0
"""The neck must also be narrower by more than this on each side, in pixels: a jagged outline parts nothing."""


@dataclass(frozen=True, eq=False)
class Objects:
    """N objects, ordered by the top, then by the left of their boxes.

    `labels` is int32 (H, W), 0 where no object is, else its number from 1. Of each object, in pixels: `areas` (N,),
    `boxes` (N, 4) with left, top, width and height, `centroids` (N, 2) with x and y; a pixel's coordinates are whole.
    """

    labels: np.ndarray
    areas: np.ndarray
    boxes: np.ndarray
    centroids: np.ndarray

    def __len__(self) -> int:
        return len(self.areas)


def find_objects(region_HW: np.ndarray, *, watershed: bool = False) -> Objects:
    """The connected regions where bool (H, W) is true; `watershed` parts those that touch (`_parted`)."""
    count, labels_HW, stats, centroids = cv2.connectedComponentsWithStats(
        region_HW.astype(np.uint8), connectivity=CONNECTIVITY
    )
    boxes, areas, centroids = stats[1:, :4], stats[1:, cv2.CC_STAT_AREA], centroids[1:]
    if watershed and count > 1:
        labels_HW = _parted(region_HW)
        boxes, areas, centroids = _measures(labels_HW)
    left, top, width, height = boxes.T
    # OpenCV's own order may depend on its number of threads.
    order = np.lexsort((*centroids.T, areas, width, height, left, top))
    numbers = np.zeros(len(areas) + 1, np.int32)
    numbers[order + 1] = np.arange(1, len(areas) + 1)
    return Objects(numbers[labels_HW], areas[order], boxes[order], centroids[order])


def _measures(labels_HW: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The boxes, areas and centroids of the labels 1..N."""
    y, x = np.nonzero(labels_HW)
    label = labels_HW[y, x] - 1
    areas = np.bincount(label)
    low, high = np.full((2, len(areas)), np.iinfo(np.int64).max), np.full((2, len(areas)), -1)
    for axis, place in enumerate((x, y)):
        np.minimum.at(low[axis], label, place)
        np.maximum.at(high[axis], label, place)
    centroids = np.stack([np.bincount(label, place) / areas for place in (x, y)], axis=1)
    return np.concatenate([low, high - low + 1]).T, areas, centroids


def _parted(region_HW: np.ndarray) -> np.ndarray:
    """int32 (H, W): the watershed of the distance to the region's outside, from 1; 0 outside.

    Each pixel climbs to its highest neighbour until it stands on a peak. Peaks are joined, from the highest pass
    down, unless the pass between them is a neck: `_NECK` and `_STEP` compare it with the lower peak.
    """
    height_HW = cv2.distanceTransform(region_HW.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    way = _climbed(height_HW)
    peaks = np.flatnonzero(region_HW.ravel() & (way == np.arange(way.size)))
    basins = np.zeros(way.size, np.int32)
    basins[peaks] = np.arange(1, len(peaks) + 1)
    basin_HW = basins[way].reshape(region_HW.shape) * region_HW  # from 1; 0 is outside
    root = list(range(len(peaks) + 1))
    top = [0.0, *height_HW.ravel()[peaks].tolist()]

    def find(basin: int) -> int:
        while root[basin] != basin:
            root[basin] = basin = root[root[basin]]
        return basin

    for one, other, height in _passes(basin_HW, height_HW):
        one, other = find(one), find(other)
        lower = min(top[one], top[other])
        if one != other and (height >= _NECK * lower or lower - height <= _STEP):
            root[max(one, other)] = min(one, other)
            top[min(one, other)] = max(top[one], top[other])
    _, numbers = np.unique([find(basin) for basin in root], return_inverse=True)
    return numbers.astype(np.int32)[basin_HW]


_FORWARD = ((0, 1), (1, -1), (1, 0), (1, 1))
"""Half of a pixel's eight neighbours; the other half sees it as theirs."""


def _beside(values_HW: np.ndarray, down: int, right: int) -> tuple[np.ndarray, np.ndarray]:
    """Each pixel that has a neighbour there, and that neighbour."""
    height, width = values_HW.shape
    own = values_HW[: height - down, max(0, -right) : width - max(0, right)]
    return own, values_HW[down:, max(0, right) : width - max(0, -right)]


def _climbed(height_HW: np.ndarray) -> np.ndarray:
    """Where each pixel's way from highest neighbour to highest neighbour ends: flat indices, (H * W,)."""
    index_HW = np.arange(height_HW.size).reshape(height_HW.shape)
    best_HW, next_HW = height_HW.copy(), index_HW.copy()
    for down, right in _FORWARD:
        for target, source in ((0, 1), (1, 0)):
            best = _beside(best_HW, down, right)[target]
            height = _beside(height_HW, down, right)[source]
            higher = height > best
            best[higher] = height[higher]
            _beside(next_HW, down, right)[target][higher] = _beside(index_HW, down, right)[source][higher]
    way = next_HW.ravel()
    while not np.array_equal(way, further := way[way]):
        way = further
    return way


def _passes(basin_HW: np.ndarray, height_HW: np.ndarray) -> list[tuple[int, int, float]]:
    """The pairs of neighbouring basins with the height of the highest pass between them, highest first."""
    pairs, heights = [], []
    for down, right in _FORWARD:
        one, other = _beside(basin_HW, down, right)
        border = (one != other) & (one > 0) & (other > 0)
        pairs.append(np.stack([one[border], other[border]], axis=1))
        heights.append(np.minimum(*_beside(height_HW, down, right))[border])
    pair_N2, height_N = np.sort(np.concatenate(pairs), axis=1), np.concatenate(heights)
    order = np.lexsort((pair_N2[:, 1], pair_N2[:, 0], -height_N))
    pair_N2, height_N = pair_N2[order], height_N[order]
    _, first = np.unique(pair_N2, axis=0, return_index=True)
    first.sort()
    return list(zip(*pair_N2[first].T.tolist(), height_N[first].tolist(), strict=True))
