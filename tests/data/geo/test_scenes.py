"""Files as scenes: mosaics, other systems and resolutions, and what has no data."""

import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from made_earth import SIDE, UTM, photo, place, roofs, write_raster
from PIL import Image
from rasterio import Affine
from rasterio.enums import ColorInterp
from rasterio.warp import Resampling, calculate_default_transform, reproject

from segmentation.data.geo import scenes as scenes_module
from segmentation.data.geo.samples import undeclared_no_data
from segmentation.data.geo.scenes import Header, Scene, find_scenes, placed, read_headers
from segmentation.data.raster import without_georeference_warning
from segmentation.errors import UserError
from segmentation.library_warnings import library_warnings_hidden

SIZE = (96, 128)
TURNED = Affine(0.433, 0.25, 500_000, 0.25, -0.433, 5_400_000)


def scenes(*paths: Path, resolution: float | None = None, near: int = 0) -> list[Scene]:
    return find_scenes(read_headers([str(path) for path in paths]), resolution=resolution, near=near)


def whole(scene: Scene, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    height, width = scene.grid.size
    return scene.read(slice(0, height), slice(0, width), **options)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return photo(roofs(*SIZE), *SIZE)


def test_a_mosaic_is_read_as_one_image(picture: np.ndarray, tmp_path: Path) -> None:
    paths = [
        write_raster(
            tmp_path / f"{row}_{column}.tif",
            picture[:, row : row + 40, column : column + 50],
            place(row, column),
        )
        for row in (0, 40, 56)  # the last row of files overlaps the one above
        for column in (0, 50, 78)
    ]
    (scene,) = scenes(*paths)
    assert scene.grid.size == SIZE
    assert np.array_equal(whole(scene)[0], picture)
    values, valid = scene.read(slice(30, 70), slice(40, 90), [4, 2])
    assert np.array_equal(values, picture[[3, 1], 30:70, 40:90])
    assert valid.all()


@pytest.mark.parametrize(("near", "count"), [(0, 2), (30, 1)])
def test_files_apart_are_scenes_of_their_own_unless_they_are_near(
    near: int, count: int, picture: np.ndarray, tmp_path: Path
) -> None:
    one = write_raster(tmp_path / "one.tif", picture[:, :, :50])
    other = write_raster(tmp_path / "other.tif", picture[:, :, 75:], place(0, 75))
    found = scenes(one, other, near=near)
    assert len(found) == count
    if count == 1:
        values, valid = whole(found[0])
        assert np.array_equal(valid.any(axis=0), np.r_[np.ones(50), np.zeros(25), np.ones(53)] > 0)
        assert np.array_equal(values[:, valid], picture[:, valid])


@pytest.mark.parametrize("crs", ["EPSG:32632", "EPSG:4326", "EPSG:3857"])
def test_files_of_other_systems_are_warped_to_the_first(crs: str, tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(SIZE[0]), 3 * np.arange(SIZE[1]))[None].astype(np.uint16) + 100
    bounds = rasterio.transform.array_bounds(*SIZE, place())
    transform, width, height = calculate_default_transform(UTM, crs, *reversed(SIZE), *bounds)
    there = np.zeros((1, height, width), np.uint16)
    reproject(
        smooth,
        there,
        src_transform=place(),
        src_crs=UTM,
        dst_transform=transform,
        dst_crs=crs,
        resampling=Resampling.bilinear,
        dst_nodata=0,
    )
    first = write_raster(tmp_path / "a.tif", smooth[:, :, :40])
    second = write_raster(tmp_path / "b.tif", there, transform, crs, nodata=0)
    (scene,) = scenes(first, second)
    top, left, _, _ = scene.sources[0].box  # turned, the other file reaches further
    values, valid = scene.read(slice(top + 5, top + 90), slice(left, left + 120))
    assert valid.all()
    assert np.abs(values[0].astype(int) - smooth[0, 5:90, :120]).max() <= 4


def test_each_of_many_scenes_looks_at_the_label_rasters_near_it_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (header,) = read_headers([str(write_raster(tmp_path / "a.tif", np.ones((1, *SIZE), np.uint8)))])
    apart = [replace(header, transform=place(0, 1000 * number)) for number in range(100)]
    (*found,) = find_scenes(apart, resolution=None, near=0)
    looked_at: list[Header] = []
    source_of = scenes_module._source
    monkeypatch.setattr(
        scenes_module, "_source", lambda header, *grid: looked_at.append(header) or source_of(header, *grid)
    )
    on_scenes = placed(apart, found)
    assert [scene.sources[0].header for scene in on_scenes] == apart
    assert len(looked_at) == len(apart)


@pytest.mark.parametrize("factor", [2, 0.5])
def test_the_resolution_can_be_chosen(factor: float, picture: np.ndarray, tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", picture)
    (scene,) = scenes(path, resolution=SIDE * factor)
    assert scene.grid.size == (SIZE[0] / factor, SIZE[1] / factor)
    values, _ = whole(scene)
    if factor == 2:  # means of four pixels
        means = picture.reshape(4, SIZE[0] // 2, 2, SIZE[1] // 2, 2).mean(axis=(2, 4))
        assert np.abs(values - means).max() <= 1


@pytest.mark.parametrize("how", ["no-data", "alpha", "mask", "nan"])
def test_pixels_without_data_are_known(how: str, picture: np.ndarray, tmp_path: Path) -> None:
    gone = np.zeros(SIZE, bool)
    gone[10:30, 20:70] = True
    profile: dict[str, Any] = {}
    values = picture.copy()
    if how == "no-data":
        values[:, gone], profile = 0, {"nodata": 0}
    elif how == "alpha":
        values = np.concatenate([picture, np.where(gone, 0, 65535)[None].astype(np.uint16)])
    elif how == "nan":
        values = picture.astype(np.float32)
        values[2, gone] = np.nan
    path = write_raster(tmp_path / "a.tif", values, **profile)
    if how == "mask":
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
            file.write_mask(~gone)
    if how == "alpha":
        with rasterio.open(path, "r+") as file:
            file.colorinterp = [*[ColorInterp.undefined] * 4, ColorInterp.alpha]
    (scene,) = scenes(path)
    read, valid = whole(scene)
    assert len(read) == 4
    assert np.array_equal(valid, ~gone)
    assert not read[:, gone].any()
    coarse = scene.holds(slice(0, 96), slice(0, 128), 8)
    assert coarse.shape == (12, 16)
    assert np.array_equal(coarse[2], ~gone[20, 4::8])


@pytest.mark.parametrize("kind", ["uint8", "int16", "float32"])
def test_what_lies_beside_a_turned_file_is_no_data(kind: str, tmp_path: Path) -> None:
    path = write_raster(tmp_path / "turned.tif", np.full((1, *SIZE), 200, kind), TURNED)
    upright = write_raster(tmp_path / "upright.tif", np.full((1, 4, 4), 100, kind))
    (scene,) = scenes(upright, path)
    values, valid = whole(scene)
    assert 0.3 < valid.mean() < 0.7
    assert (values[0][valid] >= 100).mean() > 0.99
    assert 0.3 < scene.holds(*(slice(0, side // 8 * 8) for side in scene.grid.size), 8).mean() < 0.7


@pytest.mark.parametrize("nodata", [None, 0])
def test_what_lies_beside_turned_labels_is_no_background(nodata: int | None, tmp_path: Path) -> None:
    values = np.zeros((1, *SIZE), np.uint8)
    values[:, :48] = 7
    path = write_raster(tmp_path / "labels.tif", values, TURNED, nodata=nodata)
    (around,) = scenes(write_raster(tmp_path / "a.tif", np.ones((1, 150, 150), np.uint8)))
    (scene,) = placed(read_headers([str(path)], categories=True), [around])
    read, valid = whole(scene)
    assert 0.3 < valid.mean() < 0.4
    assert 0.2 < (read[0][valid] == 7).mean() < 0.8


@pytest.mark.parametrize(
    "what", ["missing", "damaged", "nowhere", "no transform", "building site", "palette"]
)
def test_files_that_cannot_be_used_are_told_by_name(what: str, picture: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    if what == "damaged":
        write_raster(path, picture)
        path.write_bytes(path.read_bytes()[:3000])
    elif what == "nowhere":
        with rasterio.open(
            path, "w", driver="GTiff", count=1, height=4, width=4, dtype="uint8", crs=None, transform=place()
        ) as file:
            file.write(np.ones((1, 4, 4), np.uint8))
    elif what == "no transform":
        with without_georeference_warning():
            write_raster(path, picture, rasterio.Affine.identity())
    elif what == "building site":
        write_raster(path, picture, crs='LOCAL_CS["site",UNIT["metre",1]]')
    elif what == "palette":
        write_raster(path, np.ones((1, 8, 8), np.uint8), photometric="PALETTE")
        with rasterio.open(path, "r+") as file:
            file.write_colormap(1, {0: (0, 0, 0, 255), 1: (255, 0, 0, 255)})
    with pytest.raises(UserError, match=r"a\.tif[^\n]*\.$"):
        whole(scenes(path)[0])


@pytest.mark.parametrize(
    ("value", "kind", "found"),
    [(-9999, "float32", True), (0, "uint16", True), (65535, "uint16", True), (2047, "uint16", False)],
)
@pytest.mark.parametrize("declared", [False, True])
def test_a_no_data_value_that_is_not_declared_is_said(
    value: float, kind: str, found: bool, declared: bool, tmp_path: Path
) -> None:
    values = np.random.default_rng(0).normal(500, 60, (3, 300, 700)).astype(kind)
    values[:, :40] = value
    path = write_raster(tmp_path / "a.tif", values, nodata=value if declared else None)
    notes = list(undeclared_no_data(find_scenes(read_headers([str(path)]), resolution=None, near=0)))
    assert bool(notes) is (found and not declared)
    for note in notes:
        assert re.search(
            rf"a\.tif: \d+% .* are {value} in every band.*rio edit-info --nodata {value} a\.tif$", note
        )


def test_a_file_across_180_degrees_is_refused(tmp_path: Path) -> None:
    path = write_raster(
        tmp_path / "a.tif", np.ones((1, 64, 64), np.uint8), Affine(0.01, 0, 179.7, 0, -0.01, 10), "EPSG:4326"
    )
    with pytest.raises(UserError, match=r"a\.tif lies across 180 degrees of longitude, [^\n]*\.$"):
        read_headers([str(path)])


def test_threads_that_open_files_without_a_place_do_not_fill_the_console(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.tif")

    def look(_: int) -> int:
        with rasterio.open(tmp_path / "a.tif") as file:
            return int(file.width)

    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        look(0)
        assert [each.category for each in shown] == [rasterio.errors.NotGeoreferencedWarning]
        with library_warnings_hidden(), ThreadPoolExecutor(4) as pool:
            assert set(pool.map(look, range(16))) == {8}
        assert len(shown) == 1
