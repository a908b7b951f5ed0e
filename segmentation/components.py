"""The objects of a mask: connected regions of one class, parted at their necks if wanted, and their measures."""

from collections.abc import Sequence
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
    order = in_order(areas, boxes, centroids)  # OpenCV's own may depend on its number of threads
    numbers = np.zeros(len(areas) + 1, np.int32)
    numbers[order + 1] = np.arange(1, len(areas) + 1)
    return Objects(numbers[labels_HW], areas[order], boxes[order], centroids[order])


def in_order(areas: np.ndarray, boxes: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """The indices of objects in the order of `Objects`, from their measures as there."""
    left, top, width, height = boxes.T
    order: np.ndarray = np.lexsort((*centroids.T, areas, width, height, left, top))
    return order


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

    Each pixel climbs to its highest neighbour until it stands on a peak; a peak and all that climb to it are a basin.
    Basins are joined, from the highest pass down, unless the pass is a neck: `_NECK` and `_STEP` compare it with the
    lower peak.
    """
    distance_HW = cv2.distanceTransform(region_HW.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    padded_HW = np.pad(distance_HW, 1)
    all_heights = padded_HW.ravel()
    inside_P = np.flatnonzero(
        np.pad(region_HW, 1)
    )  # of the pixels, whose neighbours are at fixed steps from them
    width = padded_HW.shape[1]
    forward = (1, width - 1, width, width + 1)
    peak_P = _climbed(all_heights, inside_P, [*forward, *(-step for step in forward)])
    peaks = np.flatnonzero(peak_P == np.arange(len(peak_P)))
    basin_P = np.searchsorted(peaks, peak_P)
    top = all_heights[inside_P[peaks]].tolist()
    root = list(range(len(peaks)))

    def find(basin: int) -> int:
        while root[basin] != basin:
            root[basin] = basin = root[root[basin]]
        return basin

    for one, other, height in _passes(all_heights, inside_P, basin_P, forward):
        one, other = find(one), find(other)
        lower = min(top[one], top[other])
        if one != other and (height >= _NECK * lower or lower - height <= _STEP):
            root[max(one, other)] = min(one, other)
            top[min(one, other)] = max(top[one], top[other])
    _, numbers = np.unique([find(basin) for basin in root], return_inverse=True)
    labels_HW = np.zeros(padded_HW.shape, np.int32)
    labels_HW.ravel()[inside_P] = numbers[basin_P] + 1
    return labels_HW[1:-1, 1:-1]


def _climbed(all_heights: np.ndarray, inside_P: np.ndarray, steps: Sequence[int]) -> np.ndarray:
    """Where each pixel's way from highest neighbour to highest neighbour ends, as an index into `inside_P`, (P,)."""
    number = np.zeros(len(all_heights), np.int32)
    number[inside_P] = way = np.arange(len(inside_P), dtype=np.int32)
    best = all_heights[inside_P]
    for step in steps:
        height = all_heights[inside_P + step]
        higher = height > best
        best[higher] = height[higher]
        way[higher] = number[inside_P[higher] + step]
    while not np.array_equal(way, further := way[way]):
        way = further
    return way


def _passes(
    all_heights: np.ndarray, inside_P: np.ndarray, basin_P: np.ndarray, steps: Sequence[int]
) -> list[tuple[int, int, float]]:
    """The pairs of neighbouring basins with the height of the highest pass between them, highest first."""
    all_basins = np.full(len(all_heights), -1, basin_P.dtype)
    all_basins[inside_P] = basin_P
    pairs, heights = [], []
    for step in steps:
        other_P = all_basins[inside_P + step]
        border = (other_P >= 0) & (other_P != basin_P)
        pairs.append(np.stack([basin_P[border], other_P[border]], axis=1))
        at = inside_P[border]
        heights.append(np.minimum(all_heights[at], all_heights[at + step]))
    pair_N2, height_N = np.sort(np.concatenate(pairs), axis=1), np.concatenate(heights)
    order = np.lexsort((pair_N2[:, 1], pair_N2[:, 0], -height_N))
    pair_N2, height_N = pair_N2[order], height_N[order]
    _, first = np.unique(pair_N2[:, 0] * len(inside_P) + pair_N2[:, 1], return_index=True)
    first.sort()
    return list(zip(*pair_N2[first].T.tolist(), height_N[first].tolist(), strict=True))
