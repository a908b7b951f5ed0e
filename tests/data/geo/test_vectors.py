"""Outlines of vector files: read, repaired, brought to the scene's system, and burnt into pixels."""

import sqlite3
import struct
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio.features
import shapely
from made_earth import LEFT, SIDE, TOP, UTM, box, on_ground, place, roofs, write_outlines, write_raster
from rasterio import Affine

from segmentation.data.geo.scenes import Scene, find_scenes, read_headers
from segmentation.data.geo.vectors import burn, read_outlines
from segmentation.errors import UserError

SIZE = (96, 128)
WHOLE = slice(0, SIZE[0]), slice(0, SIZE[1])


def scene(folder: Path, transform: Affine | None = None, crs: str = UTM) -> Scene:
    path = write_raster(folder / "image.tif", np.ones((1, *SIZE), np.uint8), transform, crs)
    (found,) = find_scenes(read_headers([str(path)]), resolution=None, near=0)
    return found


def burnt(folder: Path, *paths: Path, all_touched: bool = False, on: Scene | None = None) -> np.ndarray:
    return burn(read_outlines(paths), on or scene(folder), 1, 0, all_touched=all_touched).mask(*WHOLE)


@pytest.mark.parametrize("ending", ["gpkg", "geojson", "shp", "fgb"])
@pytest.mark.parametrize("all_touched", [False, True])
def test_they_are_burnt_as_rasterio_does(ending: str, all_touched: bool, tmp_path: Path) -> None:
    polygons = roofs(*SIZE)
    path = write_outlines(tmp_path / f"roofs.{ending}", polygons)
    judge = rasterio.features.rasterize(
        polygons, SIZE, transform=place(), all_touched=all_touched, dtype="uint8"
    )
    assert np.array_equal(burnt(tmp_path, path, all_touched=all_touched), judge)
    assert 0 < judge.mean() < 1


def test_a_case_on_paper(tmp_path: Path) -> None:
    """Pixels belong to the outline that holds their centre: a square without its hole, a triangle."""
    ring, hole = [(1.4, 1.4), (4.4, 1.4), (4.4, 4.4), (1.4, 4.4)], [(2, 2), (3, 2), (3, 3), (2, 3)]
    triangle = [(6, 0), (9.8, 0), (6, 3.8)]
    shapes = [shapely.Polygon(on_ground(ring), [on_ground(hole)]), shapely.Polygon(on_ground(triangle))]
    mask = burnt(tmp_path, write_outlines(tmp_path / "a.gpkg", shapes))[:5, :10]
    assert mask.tolist() == [
        [0, 0, 0, 0, 0, 0, 1, 1, 1, 0],
        [0, 1, 1, 1, 0, 0, 1, 1, 0, 0],
        [0, 1, 0, 1, 0, 0, 1, 0, 0, 0],
        [0, 1, 1, 1, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ]


def test_a_window_is_a_part_of_the_whole(tmp_path: Path) -> None:
    path = write_outlines(tmp_path / "roofs.gpkg", roofs(*SIZE))
    known = burn(read_outlines([path]), scene(tmp_path), 1, 0, all_touched=False)
    whole = known.mask(*WHOLE)
    for top, left, bottom, right in ((0, 0, 1, 1), (3, 7, 50, 90), (60, 100, 96, 128)):
        rows, columns = slice(top, bottom), slice(left, right)
        assert np.array_equal(known.mask(rows, columns), whole[rows, columns])


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:32632"])
def test_they_may_have_another_coordinate_system(crs: str, tmp_path: Path) -> None:
    polygons = roofs(*SIZE)
    mask = burnt(tmp_path, write_outlines(tmp_path / "roofs.gpkg", polygons, crs))
    same = burnt(tmp_path, write_outlines(tmp_path / "same.gpkg", polygons))
    assert (mask != same).mean() < 1e-3


def test_a_turned_image_has_them_turned(tmp_path: Path) -> None:
    turned = Affine(0.433, 0.25, LEFT + 2, 0.25, -0.433, TOP)
    polygons = roofs(*SIZE)
    mask = burnt(tmp_path, write_outlines(tmp_path / "a.gpkg", polygons), on=scene(tmp_path, turned))
    assert np.array_equal(mask, rasterio.features.rasterize(polygons, SIZE, transform=turned, dtype="uint8"))


def test_multipolygons_and_several_files_count_as_their_parts(tmp_path: Path) -> None:
    first, second, third = box(2, 2, 10, 10), box(20, 20, 40, 30), box(50, 60, 70, 80)
    one = write_outlines(tmp_path / "one.gpkg", [shapely.MultiPolygon([first, second])])
    other = write_outlines(tmp_path / "other.geojson", [third], "EPSG:4326")
    together = write_outlines(tmp_path / "all.gpkg", [first, second, third])
    assert np.array_equal(burnt(tmp_path, one, other), burnt(tmp_path, together))


def test_what_is_wrong_is_repaired_or_left_out_and_counted(tmp_path: Path) -> None:
    bow = shapely.Polygon(on_ground([(0, 0), (8, 8), (8, 0), (0, 8)]))
    shapes = [
        bow,
        box(20, 20, 30, 30),
        shapely.Point(LEFT, TOP),
        shapely.LineString(on_ground([(0, 0), (5, 5)])),
    ]
    outlines = read_outlines([write_outlines(tmp_path / "a.gpkg", shapes)])
    assert outlines.notes == (
        "a.gpkg: 2 of 4 shapes are points or lines, which are left out.",
        "a.gpkg: 1 of 2 outlines cross themselves and were repaired.",
    )
    assert shapely.area(outlines.polygons).sum() == pytest.approx((100 + 32) * SIDE**2)


def test_open_rings_are_closed_and_what_is_no_outline_is_left_out_and_counted(tmp_path: Path) -> None:
    def stored(*corners: tuple[float, float]) -> bytes:
        return struct.pack("<BIII", 1, 3, 1, len(corners)) + np.array(on_ground(corners)).tobytes()

    rings = [stored((0, 0), (8, 0), (8, 8), (0, 8)), stored((20, 0)), None]
    pyogrio.raw.write(
        tmp_path / "a.gpkg",
        np.array(rings, object),
        [np.arange(3)],
        ["id"],
        crs=UTM,
        geometry_type="Unknown",
    )
    outlines = read_outlines([tmp_path / "a.gpkg"])
    assert shapely.area(outlines.polygons).tolist() == [64 * SIDE**2]
    assert outlines.notes == (
        "a.gpkg: 1 of 3 outlines ended elsewhere than they began and were closed.",
        "a.gpkg: 1 of 3 shapes cannot be read as outlines and are left out.",
    )


def test_the_smaller_lies_over_the_larger(tmp_path: Path) -> None:
    path = write_outlines(tmp_path / "a.gpkg", [box(2, 2, 4, 4), box(0, 0, 10, 10)], kind=["chimney", "roof"])
    outlines = read_outlines([path], attribute="kind")
    mask = burn(outlines, scene(tmp_path), {"roof": 1, "chimney": 2}, 0, all_touched=False).mask(*WHOLE)
    assert [(mask == label).sum() for label in (1, 2)] == [96, 4]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"attribute": "Kind"}, "dataset.attribute=Kind: .*a.gpkg has no such column. Did you mean 'kind'"),
        ({"layer": "roof"}, "dataset.layer=roof: .*a.gpkg has no such layer"),
    ],
)
def test_wrong_names_are_told(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = write_outlines(tmp_path / "a.gpkg", [box(0, 0, 9, 9)], layer="roofs", kind=["roof"])
    with pytest.raises(UserError, match=words):
        read_outlines([path], **options)


def test_tables_without_shapes_are_no_layers(tmp_path: Path) -> None:
    path = write_outlines(tmp_path / "a.gpkg", [box(0, 0, 9, 9)])
    styles: dict[str, Any] = {
        "field_data": [np.array(["red"], object)],
        "fields": ["style"],
        "geometry": None,
    }
    pyogrio.raw.write(path, layer="layer_styles", append=True, geometry_type=None, crs=None, **styles)
    assert len(read_outlines([path]).polygons) == 1


def test_a_table_alone_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    pyogrio.raw.write(path, None, [np.arange(3)], ["id"], geometry_type=None)
    with pytest.raises(UserError, match=r"a\.gpkg holds no outline: give a layer of polygons"):
        read_outlines([path])


def test_numbers_of_a_column_are_names(tmp_path: Path) -> None:
    path = write_outlines(tmp_path / "a.gpkg", [box(0, 0, 9, 9)] * 4, kind=[3.0, 2.5, np.inf, np.nan])
    assert read_outlines([path], attribute="kind").names == ["2.5", "3", "inf"]


@pytest.mark.parametrize("ending", ["shp", "gpkg"])
@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_without_a_system_they_are_in_that_of_the_images(ending: str, tmp_path: Path) -> None:
    path = write_outlines(tmp_path / f"a.{ending}", [box(2, 3, 9, 9)], None)
    outlines = read_outlines([path])
    assert outlines.notes == (f"a.{ending} names no coordinate system: that of the images is taken.",)
    assert burn(outlines, scene(tmp_path), 1, 0, all_touched=False).mask(*WHOLE).sum() == 7 * 6


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_files_with_and_without_a_system_are_not_mixed(tmp_path: Path) -> None:
    paths = [write_outlines(tmp_path / "a.gpkg", [box(2, 2, 9, 9)], "EPSG:4326")]
    paths.append(write_outlines(tmp_path / "b.shp", [box(12, 12, 19, 19)], None))
    for given in (paths, paths[::-1]):
        with pytest.raises(UserError, match=r"b\.shp names no coordinate system, and other outlines do: "):
            read_outlines(given)


@pytest.mark.parametrize("name", ["roofs", "gpkg_contents"])
def test_a_view_is_refused_which_could_take_for_ever(name: str, tmp_path: Path) -> None:
    path = write_outlines(tmp_path / "a.gpkg", [box(0, 0, 9, 9)])
    with closing(sqlite3.connect(path)) as file, file:
        file.execute(f"alter table {'a' if name == 'roofs' else name} rename to kept")
        endless = "with recursive n(i) as (select 1 union all select i + 1 from n) select i from n"
        file.execute(f"create view {name} as select kept.* from kept, ({endless})")
        if name == "roofs":
            for table in ("gpkg_contents", "gpkg_geometry_columns"):
                file.execute(f"update {table} set table_name = 'roofs'")
    with pytest.raises(UserError, match=r"a\.gpkg(: roofs is a view| has views in place)[^\n]*\.$"):
        read_outlines([path])


@pytest.mark.parametrize("number", range(9))
def test_files_that_cannot_be_used_are_told_by_name(number: int, tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    if number == 1:
        path.write_text("<OGRVRTDataSource><OGRVRTLayer name='x'><SrcDataSource>/etc/passwd</SrcDataSource>")
    elif number == 2:
        path.write_bytes(write_outlines(tmp_path / "b.gpkg", [box(0, 0, 9, 9)]).read_bytes()[:5000])
    elif number == 3:
        write_outlines(path, [shapely.Point(LEFT, TOP)])
    elif number == 4:
        for layer in ("roofs", "roads"):
            write_outlines(path, [box(0, 0, 9, 9)], layer=layer)
    elif number == 5:
        path.write_text('{"type": "FeatureCollection", "features": 3}')
    elif number == 6:
        with closing(sqlite3.connect(path)) as table:
            table.execute("create table a (b)")
    elif number == 7:
        with closing(sqlite3.connect(write_outlines(path, [box(0, 0, 9, 9)]))) as table, table:
            table.execute("delete from gpkg_geometry_columns")
    elif number == 8:
        path = write_outlines(path, [box(0, 0, 9, 9)], kind=[np.nan])
        with pytest.raises(UserError, match=r"holds no outline with a kind: "):
            read_outlines([path], attribute="kind")
        return
    with pytest.raises(UserError, match=r"a\.gpkg [^\n]*: [^\n]*\.$"):
        read_outlines([path])
