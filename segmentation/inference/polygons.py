"""Masks as polygons for maps: traced from the raster, cleaned, measured in metres, and written with their attributes.

`trace`, `mean_values`, `fill_holes`, `simplify` and `regularise` (`outlines.py`) know nothing of the Earth: they
work on arrays of shapely polygons in pixels or in metres. `write_polygons` does it all for a raster that has a place.
"""

import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from segmentation.config import PolygonOptions
from segmentation.data.raster import equal_area, import_rasterio, rasterio_errors
from segmentation.errors import UserError
from segmentation.inference.outlines import regularise, simplify_together
from segmentation.inference.outputs import FOREGROUND, FULL, unwritten
from segmentation.types import Classes

log = logging.getLogger(__name__)

_AT_ONCE = 2**23  # pixels of a strip, and numbers that are projected: each takes a few tens of bytes
_LONGEST_EDGE = (
    1000.0  # metres: a longer one is bent by a projection; this one by 0.03 m at 60 degrees of latitude
)
_GRID = 6  # decimals of a pixel: corners of pixels come back from the projection as they were

Move = Callable[[np.ndarray], np.ndarray]
"""Coordinates float64 (N, 2) -> coordinates elsewhere."""


def require_packages(*packages: str) -> None:
    """Raises `UserError` where one of the packages is missing (the extra `geo`)."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"Polygons need {' and '.join(missing)}: pip install '.[geo]'.")


def trace(mask: Any, *, background: bool) -> tuple[np.ndarray, np.ndarray]:
    """The regions of equal value in a mask, uint8 (H, W) or a band of an open raster, as polygons and their values.

    Corners are in pixels, (column, row) from the upper left. Pixels hang together by their sides; those that touch
    only at a corner are apart. With `background` the regions of value 0 are left out. A band is read by lines: the
    memory depends on the polygons alone.
    """
    import shapely

    features = importlib.import_module("rasterio.features")
    polygons, values = [], []
    for shape, value in features.shapes(mask, mask=mask if background else None, connectivity=4):
        shell, *holes = map(np.array, shape["coordinates"])
        polygons.append(shapely.Polygon(shell, holes))
        values.append(value)
    found = np.array(polygons, object)
    if not isinstance(mask, np.ndarray):  # of a band they come with the place of its file
        found = shapely.transform(found, lambda corners_N2: _apply(~mask.ds.transform, corners_N2).round())
    return found, np.array(values, np.uint8)


def mean_values(polygons: np.ndarray, file: Any) -> np.ndarray:
    """float64 (N,): the mean of a raster's only band, unsigned integers, over the pixels of each traced polygon.

    By Green's theorem the sum over a region is that of the rows' running sums at its upright edges, added where they
    go one way and subtracted where they go the other. So one pass over the raster does, for polygons of any size.
    """
    import shapely

    rings, owner = shapely.get_rings(shapely.orient_polygons(polygons), return_index=True)
    corners, ring = shapely.get_coordinates(rings, return_index=True)
    x, y = corners.round().astype(np.int64).T
    upright = np.flatnonzero((ring[1:] == ring[:-1]) & (x[1:] == x[:-1]))
    owner, x, start, stop = owner[ring[upright]], x[upright], y[upright], y[upright + 1]
    totals = np.zeros(len(polygons))
    rows = max(_AT_ONCE // file.width, 1)
    for top in range(0, file.height, rows):
        height = min(rows, file.height - top)
        values_HW = file.read(1, window=((top, top + height), (0, file.width)))
        sums = np.zeros((height + 1, file.width + 1), np.int64)
        values_HW.cumsum(axis=0, out=sums[1:, 1:])
        sums.cumsum(axis=1, out=sums)
        here = (np.minimum(start, stop) < top + height) & (np.maximum(start, stop) > top)
        first, last = ((ends[here] - top).clip(0, height) for ends in (start, stop))
        parts = sums[last, x[here]] - sums[first, x[here]]
        totals += np.bincount(owner[here], weights=parts, minlength=len(polygons))
    return totals / shapely.area(polygons)


def fill_holes(polygons: np.ndarray, below: float) -> np.ndarray:
    """The polygons without their holes of an area `below` this one, in units of the coordinates squared.

    A hole in which another of the polygons lies is kept: the two would overlap.
    """
    import shapely

    rings, owner = shapely.get_rings(polygons, return_index=True)
    hole = np.diff(owner, prepend=-1) == 0  # a polygon's first ring is its shell
    areas = shapely.polygons(rings[hole])
    filled = shapely.area(areas) < below
    inside = shapely.STRtree(shapely.point_on_surface(polygons))
    filled[inside.query(areas, predicate="contains")[0]] = False
    kept = ~hole
    kept[hole] = ~filled
    return shapely.polygons(rings[kept], indices=owner[kept])


def adjoining(polygons: np.ndarray) -> np.ndarray:
    """bool (N,): which of the traced polygons have a side of a pixel in common with another one.

    They must have a corner at every pixel, as `shapely.segmentize` with 1 makes them.
    """
    import shapely

    rings, owner = shapely.get_rings(polygons, return_index=True)
    corners, ring = shapely.get_coordinates(rings, return_index=True)
    sides = np.flatnonzero(ring[1:] == ring[:-1])
    middles = (corners[sides] + corners[sides + 1]).round().astype(np.int64)
    _, side, count = np.unique(
        middles @ (1, middles.max(initial=0) + 1), return_inverse=True, return_counts=True
    )
    shared = np.zeros(len(polygons), bool)
    shared[owner[ring[sides]][count[side] > 1]] = True
    return shared


def simplify(polygons: np.ndarray, tolerance: float, together: np.ndarray) -> np.ndarray:
    """The polygons with fewer corners, valid and with all holes; none that goes is farther away than `tolerance`.

    Those of `together`, bool (N,), have sides in common, which stay so without gaps and overlaps.
    """
    import shapely

    simple = polygons.copy()
    simple[~together] = shapely.simplify(polygons[~together], tolerance)
    if together.any():
        simple[together] = simplify_together(polygons[together], tolerance)
    return simple


def in_pixels(
    labels_HW: np.ndarray, classes: Classes, options: PolygonOptions
) -> tuple[np.ndarray, np.ndarray]:
    """The polygons of uint8 labels, but for the background, and their labels; the options count in pixels."""
    import shapely

    polygons, labels = trace(labels_HW, background=0 not in classes.foreground)
    kept = np.isin(labels, classes.foreground) & (shapely.area(polygons) >= options.min_area)
    polygons, labels = _some(kept, polygons, labels)
    if options.fill_holes:
        polygons = fill_holes(polygons, options.fill_holes)
    if options.simplify:
        fine = shapely.transform(shapely.segmentize(polygons, 1.0), np.round)
        together = adjoining(fine)
        polygons = simplify(np.where(together, fine, polygons), options.simplify, together)
        polygons, labels = _some(shapely.area(polygons) >= options.min_area, polygons, labels)
    return polygons, labels


@dataclass(frozen=True)
class Place:
    """Where the pixels of a raster lie: `crs` and `transform` are rasterio's.

    Lengths and areas are taken in `metric`, Lambert's azimuthal projection of WGS84 centred on the raster. It keeps
    areas; lengths, within 200 km of the centre, to 1 in 8,000.
    """

    crs: Any
    transform: Any
    metric: Any
    middle: tuple[float, float]  # in pixels
    centre: tuple[float, float]  # the same, longitude and latitude

    @classmethod
    def of(cls, file: Any, path: Path) -> "Place":
        """The place of an open raster; `path` is for messages. Raises `UserError` where it has none on Earth."""
        rasterio = import_rasterio()
        if not file.crs or file.transform.is_identity:
            raise UserError(
                f"{path} does not say where on Earth it lies, which polygons need: give it a coordinate system, "
                f"or leave polygons out of save."
            )
        middle = file.width / 2, file.height / 2
        wgs84 = rasterio.crs.CRS.from_epsg(4326)
        try:
            longitude, latitude = _project(_apply(file.transform, np.array([middle])), file.crs, wgs84)[0]
        except rasterio_errors():
            longitude = np.inf
        if not np.isfinite(longitude):
            raise UserError(
                f"{path} has a coordinate system that does not lead to the Earth: save it in another."
            )
        metric = rasterio.crs.CRS.from_string(equal_area(longitude, latitude))
        return cls(file.crs, file.transform, metric, middle, (float(longitude), float(latitude)))

    @property
    def pixel(self) -> float:
        """Metres: the side of a square as large as the middle pixel."""
        x, y = self.middle
        corners = self.to_metres(np.array([(x, y), (x + 1, y), (x, y + 1)]))
        return float(np.sqrt(abs(np.linalg.det(corners[1:] - corners[0]))))

    def to_metres(self, pixels_N2: np.ndarray) -> np.ndarray:
        """Corners in pixels -> in metres of `metric`."""
        return _project(self.to_map(pixels_N2), self.crs, self.metric)

    def to_map(self, pixels_N2: np.ndarray) -> np.ndarray:
        """Corners in pixels -> in the coordinate system of the raster."""
        return _apply(self.transform, pixels_N2)

    def to_pixels(self, metres_N2: np.ndarray) -> np.ndarray:
        """Corners in metres of `metric` -> in pixels; corners of pixels are exact."""
        return _apply(~self.transform, _project(metres_N2, self.metric, self.crs)).round(_GRID)

    def describe(self) -> str:
        """How areas and lengths are measured, in words."""
        longitude, latitude = self.centre
        return (
            f"areas and lengths in Lambert's azimuthal equal-area projection of WGS84, centred on "
            f"{abs(latitude):.4f}°{'N' if latitude >= 0 else 'S'} {abs(longitude):.4f}°{'E' if longitude >= 0 else 'W'}"
        )


def write_polygons(
    path: Path,
    mask: Path,
    confidence: Path,
    place: Place,
    classes: Classes,
    options: PolygonOptions,
    *,
    scratch: Path,
) -> None:
    """Write the polygons of a written mask file, with the attributes class, area_m2, perimeter_m and confidence.

    `confidence` is a raster of the same size, 65535 where the probability of the predicted class is 1; a polygon's
    is the mean over its pixels, as they were predicted. What is background, ignored or without data gives no
    polygon. GeoPackages are in the coordinate system of the mask, GeoJSON in WGS84 (RFC 7946). `scratch` is a folder
    on the same disk. What was written is logged. Raises `UserError` where the disk has no room.
    """
    import shapely

    rasterio = import_rasterio()
    with rasterio.open(mask) as file:
        traced, values = trace(rasterio.band(file, 1), background=0 not in classes.foreground)
    labels = values // FOREGROUND if classes.binary else values
    # What has no data has the label 0 in a binary mask, and else one that is no class.
    traced, labels = _some(np.isin(labels, classes.foreground), traced, labels)
    with rasterio.open(confidence) as file:
        confidences = mean_values(traced, file) / FULL
    together = np.zeros(len(traced), bool)
    if options.simplify and len(np.unique(labels)) > 1:
        fine = shapely.transform(shapely.segmentize(traced, 1.0), np.round)
        together = adjoining(fine)
        traced = np.where(together, fine, traced)
    try:
        polygons = shapely.transform(shapely.segmentize(traced, _LONGEST_EDGE / place.pixel), place.to_metres)
    except rasterio_errors() as error:
        raise UserError(
            f"{path} was not written: polygons of the mask reach where its coordinate system has no place on Earth, "
            f"or around it. Crop the image."
        ) from error
    large = shapely.area(polygons) >= options.min_area
    polygons, labels, confidences, together = _some(large, polygons, labels, confidences, together)
    if options.fill_holes:
        polygons = fill_holes(polygons, options.fill_holes)
    squared, forms = None, polygons
    if options.regularise is not None:
        forms, squared = regularise(polygons, options.regularise, max(options.simplify, place.pixel))
    if options.simplify:
        polygons = simplify(polygons, options.simplify, together)
    if squared is not None:
        polygons = np.where(squared, forms, polygons)
    # Exact corners of pixels may meet where those in metres passed each other by a hair.
    shapes = shapely.transform(polygons, place.to_pixels)
    wrong = ~shapely.is_valid(shapes)
    shapes[wrong] = shapely.make_valid(shapes[wrong], method="structure", keep_collapsed=False)
    shapes, part_of = shapely.get_parts(shapes, return_index=True)
    polygons = shapely.transform(shapes, place.to_metres)
    areas = shapely.area(polygons)
    # An outline that lost corners may have become smaller than what was asked for.
    large = areas >= options.min_area
    polygons, shapes, part_of, areas = _some(large, polygons, shapes, part_of, areas)
    attributes = {
        "class": np.array([classes.names[label] for label in labels[part_of]], object),
        "area_m2": areas.round(3),
        "perimeter_m": shapely.length(polygons).round(3),
        "confidence": confidences[part_of].round(4),
    }
    _write(path, shapely.transform(shapes, place.to_map), attributes, place, options.format, scratch)
    words = f", {squared[part_of].sum()} made right-angled" if squared is not None else ""
    count = f"{len(polygons)} polygon{'' if len(polygons) == 1 else 's'}"
    log.info("%s: %s, %.0f m2%s; %s", path.name, count, areas.sum(), words, place.describe())


def _write(
    path: Path,
    polygons: np.ndarray,
    attributes: dict[str, np.ndarray],
    place: Place,
    kind: str,
    scratch: Path,
) -> None:
    import pyogrio
    import shapely

    # Under its own name: GDAL warns of a GeoPackage with another ending.
    part = scratch / path.name
    description = place.describe()
    options = {"DESCRIPTION": description[0].upper() + description[1:] + "."}
    try:
        pyogrio.raw.write(
            str(part),
            shapely.to_wkb(polygons),
            list(attributes.values()),
            list(attributes),
            layer=path.stem,
            driver={"gpkg": "GPKG", "geojson": "GeoJSON"}[kind],
            geometry_type="Polygon" if kind == "gpkg" else "Unknown",
            crs=place.crs.to_wkt(),
            # RFC 7946: longitude and latitude, outer rings anticlockwise, cut where the longitude jumps.
            layer_options=options | ({"RFC7946": "YES"} if kind == "geojson" else {}),
        )
        part.replace(path)
    except (
        pyogrio.errors.DataSourceError,
        pyogrio.errors.DataLayerError,
        pyogrio.errors.FeatureError,
    ) as error:
        raise unwritten(path, "the disk may be full") from error
    except OSError as error:
        raise unwritten(path, error.strerror or str(error)) from error


def _some(chosen: np.ndarray, *arrays: np.ndarray) -> list[np.ndarray]:
    return [array[chosen] for array in arrays]


def _apply(transform: Any, points_N2: np.ndarray) -> np.ndarray:
    matrix = np.array(transform).reshape(3, 3)
    return points_N2 @ matrix[:2, :2].T + matrix[:2, 2]


def _project(points_N2: np.ndarray, source: Any, target: Any) -> np.ndarray:
    """Coordinates of one system in another; infinite where there is no answer."""
    transform = partial(importlib.import_module("rasterio.warp").transform, source, target)
    moved = np.empty_like(points_N2)
    for start in range(0, len(points_N2), _AT_ONCE // 64):  # it answers with lists
        part = slice(start, start + _AT_ONCE // 64)
        moved[part] = np.transpose(transform(*points_N2[part].T))
    return moved
