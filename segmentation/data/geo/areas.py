"""Areas: rectangles of scenes, which are the samples of earth data, and how they are divided without leakage.

Neighbouring pixels look alike, so that a random split of windows would test on what was trained on. Blocks are
divided instead, and between those of different splits lies a buffer in which nothing is read.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from segmentation.data.geo.scenes import Scene
from segmentation.data.geo.vectors import Burnt
from segmentation.data.raster import equal_area, import_geo
from segmentation.data.splits import split_units
from segmentation.errors import UserError
from segmentation.types import Area

_MOST = 10**6  # blocks: more would take minutes to look at
_LEAST_SIDE = 64  # pixels: areas that a buffer makes narrower show too little to learn from
_NEIGHBOURS = [(-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1)]


@dataclass(frozen=True)
class Block:
    """An area at its place, (row, column), in the grid of a scene's blocks."""

    area: Area
    place: tuple[int, int]


def blocks(scenes: Sequence[Scene], side: int) -> list[Block]:
    """Each scene in blocks of equal size, up to about `side` pixels; they hold all of it.

    Raises `UserError` for more than a million.
    """
    counts = [[max(1, round(length / side)) for length in scene.grid.size] for scene in scenes]
    total = sum(down * across for down, across in counts)
    if total > _MOST:
        raise UserError(
            f"The images are {total} blocks of {side} pixels, more than {_MOST}: give fewer images, or a larger"
            " dataset.resolution or dataset.block."
        )
    found = []
    for number, (scene, count) in enumerate(zip(scenes, counts, strict=True)):
        rows, columns = (
            np.linspace(0, length, parts + 1).round().astype(int).tolist()
            for length, parts in zip(scene.grid.size, count, strict=True)
        )
        found += [
            Block(Area(number, top, left, bottom, right), (row, column))
            for row, (top, bottom) in enumerate(pairwise(rows))
            for column, (left, right) in enumerate(pairwise(columns))
        ]
    return found


def divide(
    found: Sequence[Block], groups: Sequence[str], *, shares: Mapping[str, float], seed: int, buffer: int
) -> dict[str, list[Area]]:
    """The areas of each split, by its share; blocks of one group stay together.

    Where blocks of different splits meet, `buffer` pixels are left out, of the split that is named first in `shares`.
    Raises `UserError` for fewer groups than splits, and where a buffer leaves nothing of a split.
    """
    if len(set(groups)) < len(shares):
        raise UserError(
            f"{', '.join(shares)} need an area each, and the number of areas is {len(set(groups))}: give more images,"
            " or a smaller dataset.block with dataset.split=area."
        )
    part_of = split_units(groups, [""] * len(groups), shares=list(shares.values()), seed=seed)
    places = {(block.area.scene, *block.place): int(part) for block, part in zip(found, part_of, strict=True)}
    areas: dict[str, list[Area]] = {split: [] for split in shares}
    for block, part in zip(found, part_of, strict=True):
        area = _trimmed(block, int(part), places, buffer)
        if area == block.area or min(area.size) >= _LEAST_SIDE:
            areas[list(shares)[part]].append(area)
    for split, kept in areas.items():
        if not kept:
            raise UserError(
                f"dataset.buffer={buffer} leaves nothing of the {split} split: give a smaller one, or a larger"
                " dataset.block."
            )
    return areas


def _trimmed(block: Block, part: int, places: Mapping[tuple[int, int, int], int], buffer: int) -> Area:
    scene, top, left, bottom, right = block.area
    row, column = block.place

    def gives_way(down: int, across: int) -> bool:
        return places.get((scene, row + down, column + across), -1) > part

    cut = {side for side in _NEIGHBOURS[:4] if gives_way(*side)}
    for down, across in _NEIGHBOURS[4:]:  # at a corner one of the two sides is enough
        if gives_way(down, across) and not {(down, 0), (0, across)} & cut:
            cut.add((down, 0))
    return Area(
        scene,
        top + buffer * ((-1, 0) in cut),
        left + buffer * ((0, -1) in cut),
        max(top, bottom - buffer * ((1, 0) in cut)),
        max(left, right - buffer * ((0, 1) in cut)),
    )


def coverage(scene: Scene, area: Area, extent: Burnt | None, step: int) -> float:
    """The share of an area that holds data and lies in the labelled `extent`, looked at every `step` pixels or so."""
    _, top, left, _, _ = area
    height, width = (max(1, side // step) * step if side >= step else side for side in area.size)
    step = min(step, height, width)
    rows, columns = slice(top, top + height // step * step), slice(left, left + width // step * step)
    held = scene.holds(rows, columns, step)
    if extent is not None:
        held &= (
            extent.mask(rows, columns)[step // 2 :: step, step // 2 :: step][: held.shape[0], : held.shape[1]]
            > 0
        )
    return float(held.mean())


@dataclass(frozen=True)
class Leakage:
    """What two splits have in common: pixels and outlines, and the least distance between them in metres."""

    one: str
    other: str
    pixels: int
    outlines: int
    metres: float


def leakage(
    scenes: Sequence[Scene], splits: Mapping[str, Sequence[Area]], outlines: Mapping[int, Burnt]
) -> Iterator[Leakage]:
    """For each two of the splits; `outlines` are the burnt ones of the scenes that have any.

    Measured in an equal-area projection around the first area (Lambert's azimuthal one).
    """
    shapely = import_geo("shapely")
    around = _centre(scenes, next(iter(splits.values()))[0])
    drawn = {split: _drawn(scenes, areas, around) for split, areas in splits.items()}
    touched = {split: _touched(areas, outlines) for split, areas in splits.items()}
    for one, other in combinations(splits, 2):
        ones, others = drawn[one], drawn[other]
        first, second = shapely.STRtree(others).query(ones, predicate="intersects")
        shared = shapely.area(shapely.intersection(ones[first], others[second]))
        pixel = np.array([area.size[0] * area.size[1] for area in splits[one]])[first]
        pixels = int(np.rint(shared * pixel / shapely.area(ones[first])).sum())
        _, metres = shapely.STRtree(others).query_nearest(ones, return_distance=True, all_matches=False)
        yield Leakage(one, other, pixels, len(touched[one] & touched[other]), float(metres.min()))


def square_metres(scenes: Sequence[Scene], areas: Sequence[Area]) -> float:
    """What the areas cover of the Earth."""
    if not areas:
        return 0.0
    drawn = _drawn(scenes, areas, _centre(scenes, areas[0]))
    return float(import_geo("shapely").area(drawn).sum())


def _centre(scenes: Sequence[Scene], area: Area) -> str:
    """Lambert's azimuthal equal-area projection around an area."""
    middle = np.array([[(area.left + area.right) / 2, (area.top + area.bottom) / 2]])
    longitude, latitude = scenes[area.scene].grid.points_of(middle, "EPSG:4326")[0]
    return equal_area(longitude, latitude)


def _drawn(scenes: Sequence[Scene], areas: Sequence[Area], crs: str) -> Any:
    """The areas as polygons in a coordinate system."""
    corners = [
        [(area.left, area.top), (area.right, area.top), (area.right, area.bottom), (area.left, area.bottom)]
        for area in areas
    ]
    return import_geo("shapely").polygons(
        np.stack(
            [
                scenes[area.scene].grid.points_of(np.array(points, float), crs)
                for area, points in zip(areas, corners, strict=True)
            ]
        )
    )


def _touched(areas: Sequence[Area], outlines: Mapping[int, Burnt]) -> set[bytes]:
    """The outlines that are in one of the areas, as they are drawn: those of two scenes may be the same."""
    to_wkb = import_geo("shapely").to_wkb
    found: set[bytes] = set()
    for area in areas:
        if area.scene in outlines:
            burnt = outlines[area.scene]
            inside = burnt.touching(slice(area.top, area.bottom), slice(area.left, area.right))
            found.update(to_wkb(burnt.polygons[inside]))
    return found
