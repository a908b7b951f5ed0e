"""Outlines of adjoining regions with fewer corners: what two of them share stays shared, without gaps and overlaps."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

_TOGETHER = 256  # lines: the time grows with the square of their number

_Arc = tuple[int, int]  # the first two points of a line, by number; no other line begins so


def simplify_together(polygons: np.ndarray, tolerance: float) -> np.ndarray:
    """The shapely polygons with fewer corners, all valid, with all of their holes.

    No corner that goes is farther than `tolerance` from the new outline (Douglas-Peucker). Where polygons adjoin, both
    must have the same corners, as those of pixels with one at every pixel. Each line between two points where lines
    meet is simplified once; those of a polygon that would not stay valid are kept.
    `shapely.coverage_simplify` measures corners by the area that they take away, and leaves long, low steps of pixels.
    """
    import shapely

    rings, owner = shapely.get_rings(polygons, return_index=True)
    corners, ring = shapely.get_coordinates(rings, return_index=True)
    arcs: dict[_Arc, np.ndarray] = {}  # each line once, as indices of corners
    ways: list[list[tuple[_Arc, int]]] = [[] for _ in rings]  # the lines of each ring, and their directions
    for number, line, points in _lines(corners, ring):
        step = 1 if tuple(points[:2]) <= tuple(points[:-3:-1]) else -1
        start = int(points[::step][0]), int(points[::step][1])
        arcs.setdefault(start, line[::step])
        ways[number].append((start, step))
    lines = [corners[line] for line in arcs.values()]
    simple = dict(zip(arcs, _simplified(lines, tolerance), strict=True))
    # The same without corners on a straight line, for where the simple ones would cross.
    straight = dict(zip(arcs, _simplified(lines, tolerance / 1000), strict=True))
    kept: set[_Arc] = set()
    while True:
        outlines = [np.concatenate([simple[start][::step][:-1] for start, step in way]) for way in ways]
        found = _polygons(outlines, owner, len(polygons))
        wrong = {start for ring in np.flatnonzero(~shapely.is_valid(found)[owner]) for start, _ in ways[ring]}
        if wrong <= kept:
            return found
        kept |= wrong
        simple |= {start: straight[start] for start in wrong}


def _polygons(outlines: list[np.ndarray], owner: np.ndarray, count: int) -> np.ndarray:
    """`count` polygons of their open rings, the shell first; where a ring has no area, something that is not valid."""
    import shapely

    lost = np.isin(owner, owner[[len(outline) < 3 for outline in outlines]])
    found = np.full(count, shapely.Point(np.inf, np.inf), object)
    if not lost.all():
        rings = [outline for outline, gone in zip(outlines, lost, strict=True) if not gone]
        corner_of = np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])
        known, polygon_of = np.unique(owner[~lost], return_inverse=True)
        lines = shapely.linearrings(np.concatenate(rings), indices=corner_of)
        found[known] = shapely.polygons(lines, indices=polygon_of)
    return found


def _simplified(lines: list[np.ndarray], tolerance: float) -> list[np.ndarray]:
    """Lines of one part of the map are simplified at once, so that they do not cross each other."""
    import shapely

    number = np.repeat(np.arange(len(lines)), [len(line) for line in lines])
    whole = shapely.linestrings(np.concatenate(lines), indices=number)
    centres = shapely.get_coordinates(shapely.centroid(whole))
    side = np.sqrt(np.ptp(centres, axis=0).prod() * _TOGETHER / len(lines)) or 1.0
    part = np.unique(((centres - centres.min(axis=0)) // side) @ (1, 1j), return_inverse=True)[1]
    order = np.argsort(part, kind="stable")
    together = shapely.multilinestrings(whole[order], indices=part[order])
    simple = np.empty_like(whole)
    simple[order] = shapely.get_parts(shapely.simplify(together, tolerance))
    corners, number = shapely.get_coordinates(simple, return_index=True)
    return np.split(corners, np.flatnonzero(np.diff(number)) + 1)


def _lines(corners_N2: np.ndarray, ring_N: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Each ring in lines from a point where lines meet to the next: ring, indices of corners, numbers of points.

    A ring without such a point is one line, from its lowest point back to it.
    """
    _, points = np.unique(corners_N2 @ (1, 1j), return_inverse=True)
    sides = np.flatnonzero(ring_N[1:] == ring_N[:-1])
    ends = np.sort(np.stack((points[sides], points[sides + 1])), axis=0)
    once = np.unique(ends[0] * (points.max(initial=0) + 1) + ends[1], return_index=True)[1]
    meeting = np.bincount(ends[:, once].ravel()) > 2
    starts = np.flatnonzero(np.diff(ring_N, prepend=-1))
    for number, (first, after) in enumerate(zip(starts, [*starts[1:], len(ring_N)], strict=True)):
        around = np.arange(first, after - 1)
        stops = np.flatnonzero(meeting[points[around]])
        if not len(stops):
            stops = np.array([points[around].argmin()])
        around = np.roll(around, -stops[0])
        cuts = [*(stops - stops[0]), len(around)]
        closed = np.append(around, around[0])
        for begin, end in pairwise(cuts):
            line = closed[begin : end + 1]
            yield number, line, points[line]
