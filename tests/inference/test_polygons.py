"""Masks as polygons: nothing lost or joined, areas as on the ellipsoid, files that other programs read."""

import json
import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from made_predictors import near
from made_room import room_for

from segmentation.config import PolygonOptions
from segmentation.errors import UserError
from segmentation.inference import polygons as module
from segmentation.inference.geotiff import predict_raster
from segmentation.inference.outlines import regularise, simplify_together
from segmentation.inference.polygons import (
    Place,
    adjoining,
    fill_holes,
    mean_values,
    require_packages,
    simplify,
    trace,
    write_polygons,
)
from segmentation.tiling import Tiling
from segmentation.types import IGNORE_INDEX, Classes

rasterio = pytest.importorskip("rasterio", reason="needs rasterio, the extra geo")
shapely = pytest.importorskip("shapely", reason="needs shapely, the extra geo")
pyogrio = pytest.importorskip("pyogrio", reason="needs pyogrio, the extra geo")

BUILDING = Classes(("background", "building"), binary=True)
COVER = Classes(("background", "house", "road", "water"))
METRES = rasterio.Affine(0.5, 0, 500000, 0, -0.5, 5000000)
UTM = "EPSG:32632"


def write_tiff(path: Path, mask_HW: np.ndarray, crs: object = UTM, transform: Any = METRES) -> Path:
    height, width = mask_HW.shape
    profile = {"height": height, "width": width, "count": 1, "dtype": mask_HW.dtype}
    with rasterio.open(path, "w", driver="GTiff", crs=crs, transform=transform, **profile) as file:
        file.write(mask_HW, 1)
    return path


def written(
    folder: Path,
    mask_HW: np.ndarray,
    classes: Classes = BUILDING,
    crs: object = UTM,
    transform: Any = METRES,
    confidence_HW: np.ndarray | None = None,
    **options: Any,
) -> tuple[Path, np.ndarray, dict[str, np.ndarray]]:
    """The file of polygons, and what pyogrio reads of it: the geometries and the attributes by name."""
    chosen = PolygonOptions(**options)
    path = folder / f"scene_polygons.{chosen.format}"
    mask = write_tiff(folder / "mask.tif", mask_HW, crs, transform)
    sure_HW = np.full(mask_HW.shape, 65535, np.uint16) if confidence_HW is None else confidence_HW
    confidence = write_tiff(folder / "confidence.tif", sure_HW, crs, transform)
    with rasterio.open(mask) as file:
        place = Place.of(file, mask)
    (folder / "scratch").mkdir(exist_ok=True)
    write_polygons(path, mask, confidence, place, classes, chosen, scratch=folder / "scratch")
    assert not list((folder / "scratch").iterdir())
    info, _, geometries, columns = pyogrio.raw.read(path)
    return path, shapely.from_wkb(geometries), dict(zip(info["fields"], columns, strict=True))


def drawn(*lines: str) -> np.ndarray:
    """A mask of a digit per pixel."""
    return np.array([[int(value) for value in line] for line in lines], np.uint8)


def town(side: int, seed: int = 0, least: int = 6, most: int = 30, step: int = 40) -> np.ndarray:
    """uint8 (side, side), 0 and 255: turned rectangles, apart from each other."""
    random = np.random.default_rng(seed)
    mask = np.zeros((side, side), np.uint8)
    for row in range(step // 2, side, step):
        for column in range(step // 2, side, step):
            size = random.uniform(least, most * 0.7, 2)
            corners = cv2.boxPoints(((column, row), size, random.uniform(0, 90)))
            cv2.fillPoly(mask, [corners.round().astype(np.int32)], 255)
    return mask


def geodesic(polygon: Any, crs: object) -> tuple[float, float]:
    """Area and perimeter on the ellipsoid."""
    pyproj = pytest.importorskip("pyproj")
    to_degrees = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    # Edges of a map are straight there, not on the ellipsoid.
    fine = shapely.segmentize(polygon, polygon.length / 400)
    degrees = shapely.transform(shapely.orient_polygons(fine), to_degrees.transform, interleaved=False)
    return pyproj.Geod(ellps="WGS84").geometry_area_perimeter(degrees)


@pytest.mark.parametrize(
    ("lines", "areas"),
    [
        (("110", "110", "001"), [1, 4]),  # a corner does not join
        (("0110", "1001", "1001", "0110"), [2, 2, 2, 2]),
        (("11111", "10001", "10101", "10001", "11111"), [1, 16]),  # a courtyard with a house
        (("011", "101", "111"), [7]),  # a hole that touches the outline
        (("000", "000"), []),
        (("11", "11"), [4]),
    ],
)
def test_regions_are_traced_whole(lines: tuple[str, ...], areas: list[int]) -> None:
    polygons, values = trace(drawn(*lines), background=True)
    assert sorted(shapely.area(polygons)) == areas and (values == 1).all()
    assert shapely.is_valid(polygons).all()


def test_values_and_holes_of_random_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 40 * 7)  # strips that end inside the regions
    random = np.random.default_rng(0)
    features = pytest.importorskip("rasterio.features")
    mask = cv2.resize(random.integers(0, 4, (15, 20), np.uint8), (40, 30), interpolation=cv2.INTER_NEAREST)
    mask[random.random(mask.shape) < 0.1] = 2
    values = random.integers(0, 65536, mask.shape).astype(np.uint16)
    polygons, labels = trace(mask, background=False)
    assert shapely.area(polygons).sum() == mask.size
    with rasterio.MemoryFile() as memory:
        profile = {"driver": "GTiff", "height": 30, "width": 40, "count": 1, "dtype": "uint16"}
        with memory.open(**profile, transform=METRES) as file:
            file.write(values, 1)
        with memory.open() as file:
            means = mean_values(polygons, file)
    for polygon, label, mean in zip(polygons, labels, means, strict=True):
        inside = features.geometry_mask([polygon], mask.shape, rasterio.Affine.identity(), invert=True)
        assert (mask[inside] == label).all()
        assert mean == pytest.approx(values[inside].mean(), rel=1e-12)


def test_a_case_drawn_by_hand(tmp_path: Path) -> None:
    mask = np.zeros((60, 80), np.uint8)
    mask[10:30, 20:60] = 255
    mask[15:20, 30:40] = 0
    mask[40:44, 5:9] = 255
    mask[50:, 70:] = 127  # no data
    confidence = np.where(mask == 255, 52428, 65535).astype(np.uint16)
    confidence[10:20, 20:60] = 26214
    path, shapes, about = written(tmp_path, mask, confidence_HW=confidence)
    info = pyogrio.read_info(path)
    assert (info["layer_name"], info["crs"], info["geometry_type"]) == ("scene_polygons", UTM, "Polygon")
    assert list(info["fields"]) == ["class", "area_m2", "perimeter_m", "confidence"]
    assert "equal-area projection of WGS84, centred on 45." in info["layer_metadata"]["DESCRIPTION"]
    small, large = np.argsort(shapely.area(shapes))
    west, north = 500000, 5000000
    hut = shapely.box(west + 2.5, north - 22, west + 4.5, north - 20)
    # With PROJ 9.4, of rasterio 1.4.0, corners come back from the projection to a millimetre.
    assert shapely.equals_exact(shapes[small], hut, 2e-3, normalize=True)
    house = shapely.box(west + 10, north - 15, west + 30, north - 5)
    yard = shapely.box(west + 15, north - 10, west + 20, north - 7.5)
    assert shapely.equals_exact(shapes[large], house - yard, 2e-3, normalize=True)
    # UTM shrinks by 0.9996 where the scene lies.
    np.testing.assert_allclose(about["area_m2"][[small, large]], np.array([4, 187.5]) / 0.9996**2, rtol=1e-4)
    np.testing.assert_allclose(about["perimeter_m"][[small, large]], np.array([8, 75]) / 0.9996, rtol=1e-4)
    assert about["class"].tolist() == ["building"] * 2
    expected = (350 * 0.4 + 400 * 0.8) / 750
    np.testing.assert_allclose(about["confidence"][[small, large]], [0.8, expected], atol=1e-4)


PLACES = {
    "the edge of a UTM zone": ("EPSG:32632", rasterio.Affine(0.5, 0, 166100, 0, -0.5, 5000000)),
    "far north in Web Mercator": ("EPSG:3857", rasterio.Affine(0.6, 0, 1.2e6, 0, -0.6, 8399738)),
    "degrees": ("EPSG:4326", rasterio.Affine(8e-6, 0, 10.7, 0, -4e-6, 59.9)),
    "feet": ("EPSG:2263", rasterio.Affine(1.5, 0, 980000, 0, -1.5, 200000)),
    "turned": (UTM, rasterio.Affine(0.4, 0.3, 500000, 0.3, -0.4, 5000000)),
    "skewed": (UTM, rasterio.Affine(0.5, 0.1, 500000, 0.05, -0.4, 5000000)),
    "near the pole": ("EPSG:3995", rasterio.Affine(0.5, 0, 1000, 0, -0.5, 2000)),
    "south of the equator": ("EPSG:32756", rasterio.Affine(0.5, 0, 334000, 0, -0.5, 6250000)),
}


@pytest.mark.parametrize("name", PLACES)
def test_areas_and_lengths_are_those_on_the_ellipsoid(name: str, tmp_path: Path) -> None:
    crs, transform = PLACES[name]
    mask = town(400)
    _, shapes, about = written(tmp_path, mask, crs=crs, transform=transform)
    regions, _ = cv2.connectedComponents(mask, connectivity=4)
    assert len(shapes) == regions - 1
    truth = np.array([geodesic(shape, crs) for shape in shapes])
    np.testing.assert_allclose(about["area_m2"], truth[:, 0], rtol=0, atol=1e-3)  # both are rounded to 0.001
    np.testing.assert_allclose(about["perimeter_m"], truth[:, 1], rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:4326", rasterio.Affine(0.005, 0, 9, 0, -0.005, 60)),
        ("EPSG:3857", rasterio.Affine(600, 0, 1e6, 0, -600, 8.5e6)),
    ],
)
def test_long_edges_bend_with_the_map(crs: str, transform: Any, tmp_path: Path) -> None:
    _, shapes, about = written(
        tmp_path, np.pad(np.full((180, 180), 255, np.uint8), 10), crs=crs, transform=transform
    )
    area, perimeter = geodesic(shapes[0], crs)
    assert about["area_m2"][0] == pytest.approx(area, rel=1e-6)  # about 50 x 100 km
    assert about["perimeter_m"][0] == pytest.approx(perimeter, rel=1e-4)


@pytest.mark.parametrize("save", [("polygons",), ("mask", "probability", "polygons")])
def test_buildings_across_tiles_are_whole(save: tuple[str, ...], tmp_path: Path) -> None:
    mask = town(600, step=30, most=36)
    with rasterio.open(
        tmp_path / "scene.tif", "w", driver="GTiff", height=600, width=600, count=3, dtype="uint8", crs=UTM,
        transform=METRES,
    ) as file:  # fmt: skip
        file.write(np.stack([mask] * 3))

    def perfect(tiles_HWC: list[np.ndarray]) -> np.ndarray:
        return np.stack([tile_HWC[None, :, :, 0] / np.float32(255) for tile_HWC in tiles_HWC])

    endings = {"mask": "scene.tif", "probability": "scene_probability.tif", "polygons": "scene_polygons.gpkg"}
    targets: Any = {kind: tmp_path / "out" / endings[kind] for kind in save}
    predict_raster(
        tmp_path / "scene.tif",
        targets,
        Tiling(predict=perfect, tile=64, overlap=16),
        near(binary=True),
        alpha=0.5,
    )
    assert {path.name for path in (tmp_path / "out").iterdir()} == {endings[kind] for kind in save}
    _, _, geometries, columns = pyogrio.raw.read(targets["polygons"])
    areas = np.sort(shapely.area(shapely.from_wkb(geometries))) / 0.25
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    np.testing.assert_allclose(areas, np.sort(stats[1:, cv2.CC_STAT_AREA]), rtol=1e-9)
    assert (columns[3] == 1).all() and set(columns[0]) == {"thing"}


def test_classes_background_and_ignored(tmp_path: Path) -> None:
    mask = drawn("0011", "0011", "2233", "2233")
    mask[0, 0] = IGNORE_INDEX
    _, _, about = written(tmp_path, mask, COVER)
    assert sorted(about["class"]) == ["house", "road", "water"]
    _, _, about = written(tmp_path, mask, Classes(("grass", "house", "road", "water")))
    assert sorted(about["class"]) == ["grass", "house", "road", "water"]
    assert about["area_m2"].min() == pytest.approx(0.75, rel=2e-3)


@pytest.mark.parametrize("kind", ["gpkg", "geojson"])
@pytest.mark.parametrize("value", [0, 127])
def test_an_empty_mask_gives_an_empty_layer(kind: str, value: int, tmp_path: Path) -> None:
    options = {"min_area": 4, "simplify": 0.5, "fill_holes": 3, "regularise": 0.8, "format": kind}
    path, shapes, about = written(tmp_path, np.full((40, 50), value, np.uint8), **options)
    assert not len(shapes)
    if kind == "gpkg":
        assert list(about) == ["class", "area_m2", "perimeter_m", "confidence"]
        assert pyogrio.read_info(path)["crs"] == UTM
    else:
        assert json.loads(path.read_text())["features"] == []


def test_geojson_is_as_the_standard_wants(tmp_path: Path) -> None:
    mask = np.zeros((60, 80), np.uint8)
    mask[10:30, 20:60] = 255
    mask[15:20, 30:40] = 0
    path, _, _ = written(tmp_path, mask, format="geojson")
    found = json.loads(path.read_text())
    assert found["type"] == "FeatureCollection" and "crs" not in found
    (feature,) = found["features"]
    assert feature["properties"].keys() == {"class", "area_m2", "perimeter_m", "confidence"}
    shell, hole = feature["geometry"]["coordinates"]
    assert shell[0] == shell[-1] and np.allclose(shell[0], (9.0, 45.15), atol=0.01)  # longitude first
    assert shapely.LinearRing(shell).is_ccw and not shapely.LinearRing(hole).is_ccw


def test_geojson_is_cut_where_the_longitude_jumps(tmp_path: Path) -> None:
    mask = np.full((40, 40), 255, np.uint8)
    transform = rasterio.Affine(1e-3, 0, 179.98, 0, -1e-3, -17)
    path, _, about = written(tmp_path, mask, crs="EPSG:4326", transform=transform, format="geojson")
    (feature,) = json.loads(path.read_text())["features"]
    assert feature["geometry"]["type"] == "MultiPolygon"
    corners = np.concatenate([np.array(part[0]) for part in feature["geometry"]["coordinates"]])
    assert (np.abs(corners[:, 0]) >= 179.97).all() and (np.abs(corners[:, 0]) <= 180).all()
    assert about["area_m2"][0] == pytest.approx(
        geodesic(shapely.box(10, -17.04, 10.04, -17), 4326)[0], rel=1e-5
    )


def test_small_polygons_and_holes_go(tmp_path: Path) -> None:
    mask = np.zeros((60, 80), np.uint8)
    mask[5:45, 5:65] = 255
    mask[10:13, 10:13] = 0  # 2.25 m2
    mask[20:35, 20:50] = 0  # 112.5 m2 with a house of 6 m2
    mask[25:29, 30:36] = 255
    mask[50:53, 70:73] = 255
    _, shapes, about = written(tmp_path, mask, min_area=4, fill_holes=5)
    assert len(shapes) == 2 and shapely.get_num_interior_rings(shapes).max() == 1
    _, shapes, _ = written(tmp_path, mask, min_area=4, fill_holes=200)
    assert shapely.get_num_interior_rings(shapes).max() == 1  # the house is in it
    _, shapes, about = written(tmp_path, mask, min_area=7, fill_holes=200)
    assert shapely.get_num_interior_rings(shapes).max() == 0
    assert about["area_m2"][0] == pytest.approx(600, rel=1e-3)


def test_a_simpler_outline_stays_near() -> None:
    polygons, _ = trace(town(300), background=True)
    simple = simplify(polygons, 1.0, np.zeros(len(polygons), bool))
    assert shapely.get_num_coordinates(simple).sum() < shapely.get_num_coordinates(polygons).sum() / 4
    assert shapely.is_valid(simple).all()
    assert max(shapely.hausdorff_distance(simple, polygons)) <= 1.0 + 1e-9
    common = shapely.area(shapely.intersection(simple, polygons))
    assert (common / shapely.area(shapely.union(simple, polygons)) > 0.85).all()


@pytest.mark.parametrize("crs", [UTM, "EPSG:4326"])
def test_neighbours_stay_neighbours(crs: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    coarse = random.integers(1, 4, (12, 12)).astype(np.float32)
    mask = cv2.resize(coarse, (160, 160), interpolation=cv2.INTER_CUBIC).round().clip(1, 3).astype(np.uint8)
    mask[60:70, 60:70] = 0
    transform = METRES if crs == UTM else rasterio.Affine(9e-6, 0, 10, 0, -4.5e-6, 60)
    _, raw, _ = written(tmp_path, mask, COVER, crs, transform)
    _, simple, _ = written(tmp_path, mask, COVER, crs, transform, simplify=1)
    assert shapely.get_num_coordinates(simple).sum() < shapely.get_num_coordinates(raw).sum() / 2
    assert len(simple) == len(raw) and shapely.is_valid(simple).all()
    # Neither gaps nor overlaps: the sum of the areas is that of the union, the holes are those of the background.
    whole = shapely.union_all(simple)
    assert shapely.area(simple).sum() == pytest.approx(whole.area, rel=1e-9)
    pieces = shapely.get_parts(whole)
    assert len(pieces) == 1 and shapely.get_num_interior_rings(pieces[0]) == 1
    assert shapely.coverage_is_valid(simple)


def test_noise_is_simplified_without_gaps() -> None:
    random = np.random.default_rng(0)
    mask = random.integers(0, 3, (40, 40), np.uint8)
    polygons, _ = trace(np.kron(mask, np.ones((2, 2), np.uint8)), background=False)
    fine = shapely.transform(shapely.segmentize(polygons, 1.0), np.round)
    for tolerance in (0.5, 1.5, 4):
        simple = simplify_together(fine, tolerance)
        assert shapely.is_valid(simple).all() and shapely.coverage_is_valid(simple)
        whole = shapely.union_all(simple)
        assert shapely.area(simple).sum() == pytest.approx(whole.area) and not len(whole.interiors)
        assert (shapely.area(simple) > 0).all()
        assert max(shapely.hausdorff_distance(simple, polygons)) <= tolerance + 1e-9
        assert shapely.get_num_coordinates(simple).sum() <= shapely.get_num_coordinates(fine).sum() / 1.4


@pytest.mark.parametrize("classes", [BUILDING, COVER])
@pytest.mark.parametrize("options", [{"simplify": 0.5}, {"simplify": 1, "regularise": 0.5, "fill_holes": 3}])
def test_polygons_of_noise_are_valid(classes: Classes, options: dict[str, float], tmp_path: Path) -> None:
    mask = np.random.default_rng(0).integers(0, len(classes), (120, 120), np.uint8)
    _, shapes, about = written(
        tmp_path, mask * (255 if classes.binary else 1), classes, min_area=1, **options
    )
    assert (
        shapely.is_valid(shapes).all() and (shapely.get_type_id(shapes) == shapely.GeometryType.POLYGON).all()
    )
    assert (about["area_m2"] >= 1).all()
    np.testing.assert_allclose(about["area_m2"], shapely.area(shapes) / 0.9996**2, rtol=1e-3)


def test_what_goes_around_the_earth_is_refused(tmp_path: Path) -> None:
    world = rasterio.Affine(2, 0, -180, 0, -2, 90)
    with pytest.raises(UserError, match="no place on Earth, or around it"):
        written(tmp_path, np.full((90, 180), 255, np.uint8), crs="EPSG:4326", transform=world)


def test_only_those_that_touch_are_simplified_together() -> None:
    mask = drawn("11220", "11220", "00003", "11033")
    polygons, values = trace(mask, background=True)
    fine = shapely.transform(shapely.segmentize(polygons, 1.0), np.round)
    assert sorted(values[adjoining(fine)]) == [1, 2]


def test_a_tolerance_is_in_metres_whatever_the_map(tmp_path: Path) -> None:
    mask = town(300)
    counts = []
    for crs, transform in ((UTM, METRES), ("EPSG:4326", rasterio.Affine(9e-6, 0, 10, 0, -4.5e-6, 60))):
        _, shapes, _ = written(tmp_path, mask, crs=crs, transform=transform, simplify=0.5)
        counts.append(shapely.get_num_coordinates(shapes).sum())
    assert counts[0] == pytest.approx(counts[1], rel=0.05)


def test_holes_are_filled_by_area() -> None:
    polygons = np.array([shapely.box(0, 0, 10, 10) - shapely.box(1, 1, 2, 2) - shapely.box(4, 4, 8, 8)])
    assert shapely.area(fill_holes(polygons, 0.5))[0] == 83
    assert shapely.area(fill_holes(polygons, 2))[0] == 84
    assert shapely.area(fill_holes(polygons, 17))[0] == 100
    island = np.array([*polygons, shapely.box(5, 5, 6, 6)])
    assert shapely.area(fill_holes(island, 17)).tolist() == [84, 1]


@pytest.mark.parametrize(
    ("crs", "transform", "words"),
    [
        (None, METRES, "does not say where on Earth"),
        (UTM, None, "does not say where on Earth"),
        ('LOCAL_CS["site",UNIT["metre",1]]', METRES, "does not lead to the Earth"),
    ],
)
@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_what_has_no_place_is_refused(crs: object, transform: Any, words: str, tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "scene.tif", np.zeros((4, 4), np.uint8), crs, transform)
    with rasterio.open(path) as file, pytest.raises(UserError, match=rf"scene\.tif .*{words}"):
        Place.of(file, path)


@pytest.mark.parametrize("kind", ["gpkg", "geojson"])
@pytest.mark.parametrize("size", [100, 50_000])
def test_a_full_disk_leaves_no_polygons(kind: str, size: int, tmp_path: Path) -> None:
    mask = write_tiff(tmp_path / "mask.tif", np.tile(town(160), (4, 4)))
    confidence = write_tiff(tmp_path / "confidence.tif", np.zeros((640, 640), np.uint16))
    (tmp_path / "scratch").mkdir()
    path = tmp_path / f"out.{kind}"
    with rasterio.open(mask) as file:
        place = Place.of(file, mask)
    with pytest.raises(UserError, match=r"out\.\w+ was not written"), room_for(size):
        options = PolygonOptions(format=kind)  # type: ignore[arg-type]
        write_polygons(path, mask, confidence, place, BUILDING, options, scratch=tmp_path / "scratch")
    assert not path.exists()


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None if name == "pyogrio" else name)
    with pytest.raises(UserError) as caught:
        require_packages("rasterio", "shapely", "pyogrio")
    assert str(caught.value) == "Polygons need pyogrio: pip install '.[geo]'."


def house(angle: float, noise: float) -> np.ndarray:
    """A mask of an L of 600 + 1200 pixels with a courtyard of 144, turned, with frayed edges."""
    turn = np.deg2rad(angle)
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    shell = np.array([(-30, -20), (30, -20), (30, 0), (0, 0), (0, 20), (-30, 20)]) @ turned.T + 64
    yard = np.array([(-22, -14), (-10, -14), (-10, -2), (-22, -2)]) @ turned.T + 64
    mask = np.zeros((128, 128), np.uint8)
    cv2.fillPoly(mask, [shell.round().astype(np.int32)], 1)
    cv2.fillPoly(mask, [yard.round().astype(np.int32)], 0)
    fray = cv2.GaussianBlur(np.random.default_rng(0).normal(0, 1, mask.shape), (0, 0), 1.5)
    return (cv2.GaussianBlur(mask.astype(float), (0, 0), 1) + noise * fray > 0.5).astype(np.uint8)


@pytest.mark.parametrize("noise", [0, 0.4])
@pytest.mark.parametrize("angle", [0, 8, 30, 45, 77])
def test_a_frayed_house_gets_right_angles(angle: float, noise: float) -> None:
    polygons, _ = trace(house(angle, noise), background=True)
    polygons = polygons[shapely.area(polygons) > 100]
    (squared,), (replaced,) = regularise(polygons, 0.85, 1.5)
    assert replaced and squared.is_valid and len(squared.interiors) == 1
    assert (len(squared.exterior.coords), len(squared.interiors[0].coords)) == (7, 5)  # an L, and a square
    edges = np.diff(np.array(squared.exterior.coords), axis=0)
    turns = np.degrees(np.arctan2(edges[:, 1], edges[:, 0])) - angle
    assert np.abs((turns + 45) % 90 - 45).max() < 3
    np.testing.assert_allclose(np.abs((edges * np.roll(edges, 1, axis=0)).sum(axis=1)), 0, atol=1e-6)
    assert squared.area == pytest.approx(polygons[0].area, rel=0.02)


def test_what_has_no_right_angles_is_kept_as_it_was() -> None:
    disc = shapely.Point(50, 50).buffer(20)
    triangle = shapely.Polygon([(0, 0), (40, 0), (0, 40)])
    box = shapely.box(0, 0, 30, 10)
    polygons = np.array([disc, triangle, box])
    squared, replaced = regularise(polygons, 0.9, 0.5)
    assert replaced.tolist() == [False, False, True]
    assert squared[0] is disc and squared[1] is triangle and squared[2].equals(box)
    assert regularise(polygons, 1e-9, 0.5)[1][0]  # asked for whatever it costs


def test_the_log_says_how_areas_are_measured(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "segmentation")
    written(tmp_path, town(120), regularise=0.5, simplify=0.5)
    (line,) = [record.message for record in caplog.records if record.name.startswith("segmentation")]
    assert "scene_polygons.gpkg: 9 polygons" in line and "made right-angled" in line
    assert "Lambert's azimuthal equal-area projection of WGS84, centred on 45.1" in line
