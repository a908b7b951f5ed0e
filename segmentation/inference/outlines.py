"""Outlines with fewer corners, and with right angles.

Adjoining regions keep what two of them share, without gaps and overlaps; buildings get right angles where that stays
close to what was predicted.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

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


def regularise(polygons: np.ndarray, least_iou: float, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Each shapely polygon in its right-angled form, if its IoU with the polygon is at least `least_iou` (0..1).

    Else it is kept as it was, and so is one whose right-angled form is not valid. `tolerance`, in units of the
    coordinates, is how far the steps of pixels lead away from a wall; shorter edges are none.

    Returns the polygons, and bool (N,): which of them were replaced.
    """
    import shapely

    coarse = shapely.simplify(polygons, tolerance)
    forms = np.array(
        [_right_angled(*pair, tolerance) for pair in zip(polygons, coarse, strict=True)], object
    ).reshape(polygons.shape)
    good = shapely.is_valid(forms)  # False for None
    common = shapely.area(shapely.intersection(polygons[good], forms[good]))
    iou = common / (shapely.area(polygons[good]) + shapely.area(forms[good]) - common)
    good[good] = iou >= least_iou
    return np.where(good, forms, polygons), good


def _right_angled(polygon: Any, coarse: Any, tolerance: float) -> Any:
    """The polygon with all edges in two directions, or None where a ring has no such form.

    `coarse` is the same with only some of its corners: its edges are the walls.
    """
    import shapely

    rings, coarse_rings = (
        [np.asarray(ring.coords)[:-1] for ring in (shape.exterior, *shape.interiors)]
        for shape in (polygon, coarse)
    )
    turn = _main_direction(coarse_rings[0])
    to_axes = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    origin = rings[0].mean(axis=0)
    squared = []
    for ring, coarse_ring in zip(rings, coarse_rings, strict=True):
        places = {tuple(corner): place for place, corner in enumerate(ring.tolist())}
        kept = np.array([places[tuple(corner)] for corner in coarse_ring.tolist()])
        outline = _on_axes((ring - origin) @ to_axes, kept, tolerance)
        if outline is None:
            return None
        squared.append(outline @ to_axes.T + origin)
    return shapely.Polygon(squared[0], squared[1:])


def _main_direction(ring_N2: np.ndarray) -> float:
    """The mean angle of the edges modulo 90 degrees, in radians, weighted by the square of their length."""
    edges = np.roll(ring_N2, -1, axis=0) - ring_N2
    along = edges[:, 0] + 1j * edges[:, 1]
    # Four times the angle, which is that of the fourth power: directions 90 degrees apart become one.
    return float(np.angle((along**4 / np.abs(along).clip(1e-12) ** 2).sum()) / 4)


def _on_axes(ring_N2: np.ndarray, kept: np.ndarray, tolerance: float) -> np.ndarray | None:
    """The ring with its edges along the axes, of the walls between its `kept` corners; None for fewer than four."""
    corners = ring_N2[kept]
    spans = np.abs(np.roll(corners, -1, axis=0) - corners)
    level = spans[:, 0] >= spans[:, 1]  # along x: it lies at a y
    turns = np.flatnonzero(level != np.roll(level, 1))
    if len(turns) < 4:
        return None
    # Consecutive edges of one direction are one wall.
    walls = []
    for first, after in zip(turns, np.roll(turns, -1), strict=True):
        start, stop = kept[first], kept[after]
        path = np.arange(start, stop + 1 if stop > start else stop + 1 + len(ring_N2)) % len(ring_N2)
        walls.append(_wall(ring_N2[path] if level[first] else ring_N2[path, ::-1]))
    starts_level = bool(level[turns[0]])
    while len(walls) > 4:
        offsets = np.array([offset for offset, _ in walls])
        lengths = np.abs(np.roll(offsets, -1) - np.roll(offsets, 1))
        short = int(lengths.argmin())
        if lengths[short] >= tolerance:
            break
        # Without it its two neighbours are one wall.
        walls = walls[short:] + walls[:short]
        starts_level ^= bool(short % 2)
        (before, weight_before), (behind, weight_behind) = walls[-1], walls[1]
        weight = weight_before + weight_behind
        merged = ((before * weight_before + behind * weight_behind) / weight, weight)
        walls = [merged, *walls[2:-1]]
        starts_level = not starts_level
    offsets = np.array([offset for offset, _ in walls])
    corners = np.stack((offsets, np.roll(offsets, -1)), axis=1)
    # Every second wall is upright: its offset is an x.
    upright_first = np.arange(len(walls)) % 2 == (1 if starts_level else 0)
    return np.where(upright_first[:, None], corners, corners[:, ::-1])


def _wall(path_N2: np.ndarray) -> tuple[float, float]:
    """Where a straight wall stands for a path along x, and how far that goes.

    It stands at the mean y of the path: the area is the same on both sides. The corners that stand out would put it
    half a pixel too far outside.
    """
    steps = np.diff(path_N2[:, 0])
    middles = (path_N2[1:, 1] + path_N2[:-1, 1]) / 2
    length = np.abs(steps).sum()
    # Where it turns back on itself there are no two sides.
    weights = steps if abs(steps.sum()) > length / 2 else np.abs(steps)
    return float(weights @ middles / weights.sum()), float(length)
