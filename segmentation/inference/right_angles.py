"""Outlines made right-angled, as those of buildings, where that stays close to what was predicted."""

from typing import Any

import numpy as np


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
