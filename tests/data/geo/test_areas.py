"""Areas are divided without a pixel, an outline or a neighbour in common."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from made_earth import box, write_outlines, write_raster

from segmentation.data.geo.areas import Block, blocks, coverage, divide, leakage
from segmentation.data.geo.scenes import find_scenes, read_headers
from segmentation.data.geo.vectors import burn, read_outlines
from segmentation.errors import UserError
from segmentation.types import Area

SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


def grid(rows: int, columns: int, side: int) -> list[Block]:
    return [
        Block(Area(0, side * row, side * column, side * (row + 1), side * (column + 1)), (row, column))
        for row in range(rows)
        for column in range(columns)
    ]


def gap(one: Area, other: Area) -> int:
    """Pixels between two areas along the axis in which they are further apart."""
    return max(
        max(other.top - one.bottom, one.top - other.bottom),
        max(other.left - one.right, one.left - other.right),
    )


@pytest.mark.parametrize("buffer", [0, 64, 200])
@pytest.mark.parametrize("seed", range(8))
def test_splits_are_a_buffer_apart(buffer: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    found = grid(*random.integers(3, 9, 2).tolist(), 512)
    areas = divide(found, [str(block.place) for block in found], shares=SHARES, seed=seed, buffer=buffer)
    for one, other in combinations(SHARES, 2):
        assert min(gap(a, b) for a in areas[one] for b in areas[other]) >= buffer
    sizes = {split: sum(area.size[0] * area.size[1] for area in own) for split, own in areas.items()}
    # No more than the buffers is lost, and test keeps all of its blocks.
    assert sizes["test"] == len(areas["test"]) * 512**2
    assert sum(map(len, areas.values())) == len(found)
    if buffer == 0:
        assert sum(sizes.values()) == len(found) * 512**2


def test_groups_stay_together() -> None:
    found = grid(6, 6, 256)
    groups = [f"city {index % 5}" for index in range(len(found))]
    areas = divide(found, groups, shares=SHARES, seed=1, buffer=0)
    city_of = {block.area: group for block, group in zip(found, groups, strict=True)}
    cities = [{city_of[area] for area in own} for own in areas.values()]
    assert not set.intersection(*cities)
    assert sum(map(len, cities)) == 5


@pytest.mark.parametrize(
    ("groups", "buffer", "words"),
    [
        (["a", "b"] * 8, 0, "need an area each, and the number of areas is 2"),
        ([str(i) for i in range(16)], 240, "leaves nothing of"),
    ],
)
def test_too_little_to_divide_is_told(groups: list[str], buffer: int, words: str) -> None:
    with pytest.raises(UserError, match=words):
        divide(grid(4, 4, 256), groups, shares=SHARES, seed=0, buffer=buffer)


def test_what_splits_have_in_common_is_measured(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", np.ones((1, 256, 512), np.uint8))
    again = write_raster(tmp_path / "sub" / "b.tif", np.ones((1, 256, 512), np.uint8))
    (scene,) = find_scenes(read_headers([str(path)]), resolution=None, near=0)
    (same,) = find_scenes(read_headers([str(again)]), resolution=None, near=0)
    outlines = read_outlines(
        [write_outlines(tmp_path / "a.gpkg", [box(10, 190, 20, 290), box(40, 20, 60, 30)])]
    )
    burnt = {0: burn(outlines, scene, 1, 0, all_touched=False)}
    splits = {
        "train": [Area(0, 0, 0, 256, 200)],
        "val": [Area(0, 0, 264, 256, 512)],
        "test": [Area(1, 0, 100, 128, 264)],
    }
    near, shared, apart = leakage([scene, same], splits, burnt)
    assert (near.pixels, near.outlines, near.metres) == (0, 1, pytest.approx(32, rel=1e-3))
    assert (shared.one, shared.other) == ("train", "test")
    assert (shared.pixels, shared.metres) == (128 * 100, 0)
    assert (apart.pixels, apart.metres) == (0, pytest.approx(0, abs=0.01))


def test_blocks_hold_all_of_a_scene(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", np.ones((1, 300, 700), np.uint8))
    found = find_scenes(read_headers([str(path)]), resolution=None, near=0)
    areas = [block.area for block in blocks(found, 200)]
    seen = np.zeros((300, 700), int)
    for area in areas:
        seen[area.top : area.bottom, area.left : area.right] += 1
    assert (seen == 1).all()
    assert len(areas) == 2 * 4


def test_a_header_of_absurd_size_is_refused_before_it_takes_memory(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", np.ones((1, 8, 8), np.uint8))
    (scene,) = find_scenes(read_headers([str(path)]), resolution=None, near=0)
    absurd = replace(scene, grid=replace(scene.grid, size=(2**31, 2**31)))
    with pytest.raises(UserError, match=r"are 1099511627776 blocks of 2048 pixels.*dataset\.block\.$"):
        blocks([absurd], 2048)


def test_coverage_counts_data_within_the_extent(tmp_path: Path) -> None:
    values = np.ones((1, 256, 256), np.uint8)
    values[:, :, :128] = 0
    path = write_raster(tmp_path / "a.tif", values, nodata=0)
    (scene,) = find_scenes(read_headers([str(path)]), resolution=None, near=0)
    extent = burn(
        read_outlines([write_outlines(tmp_path / "e.gpkg", [box(0, 0, 64, 256)])]),
        scene,
        1,
        0,
        all_touched=False,
    )
    area = Area(0, 0, 0, 256, 256)
    assert coverage(scene, area, None, 16) == 0.5
    assert coverage(scene, area, extent, 16) == 0.125
