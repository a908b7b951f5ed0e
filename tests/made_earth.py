"""Small GeoTIFFs and vector files: places on Earth with roofs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import rasterio.features
import rasterio.warp
import shapely
from rasterio import Affine

UTM = "EPSG:32633"
LEFT, TOP, SIDE = 500_000.0, 5_400_000.0, 0.5
"""Where images begin, and the side of their pixels, in metres of `UTM`."""


def place(row: float = 0, column: float = 0, side: float = SIDE) -> Affine:
    """The transform of an image whose corner is at a row and a column of the usual pixels."""
    return Affine(side, 0, LEFT + column * SIDE, 0, -side, TOP - row * SIDE)


def write_raster(
    path: Path, values_CHW: np.ndarray, transform: Affine | None = None, crs: str = UTM, **profile: Any
) -> Path:
    """A GeoTIFF with values (C, H, W)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = values_CHW.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=count,
        height=height,
        width=width,
        dtype=values_CHW.dtype,
        crs=crs,
        transform=transform or place(),
        **profile,
    ) as file:
        file.write(values_CHW)
    return path


def on_ground(corners: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Corners as (column, row) of the usual pixels -> x and y in `UTM`."""
    return [(LEFT + column * SIDE, TOP - row * SIDE) for column, row in corners]


def box(top: float, left: float, bottom: float, right: float) -> shapely.Polygon:
    """A rectangle of the usual pixels as a polygon in `UTM`."""
    return shapely.Polygon(on_ground([(left, top), (right, top), (right, bottom), (left, bottom)]))


def write_outlines(
    path: Path,
    shapes: Sequence[Any],
    crs: str | None = UTM,
    layer: str | None = None,
    **columns: Sequence[Any],
) -> Path:
    """A vector file in the format of its ending, with columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    moved = np.array(shapes, dtype=object)
    if crs not in (UTM, None):
        moved = shapely.transform(moved, lambda points: _moved(points, crs))
    kinds = {shape.geom_type for shape in shapes}
    fields = {
        name: np.array(values, dtype=object if isinstance(values[0], str) else None)
        for name, values in columns.items()
    }
    pyogrio.raw.write(
        path,
        shapely.to_wkb(moved),
        list(fields.values()) or [np.arange(len(shapes))],
        list(fields) or ["id"],
        crs=crs,
        layer=layer,
        geometry_type=kinds.pop() if len(kinds) == 1 else "Unknown",
        append=layer is not None and path.exists(),
    )
    return path


def _moved(points: np.ndarray, crs: str | None) -> np.ndarray:
    x, y = rasterio.warp.transform(UTM, crs, points[:, 0], points[:, 1])
    return np.column_stack((x, y))


def roofs(rows: int, columns: int, *, seed: int = 0, cell: int = 32) -> list[shapely.Polygon]:
    """A roof in most cells of an image of this size: turned rectangles that do not touch."""
    random = np.random.default_rng(seed)
    found = []
    for top in range(0, rows - cell + 1, cell):
        for left in range(0, columns - cell + 1, cell):
            length, width, angle = random.uniform(4, 9), random.uniform(3, 6), random.uniform(0, np.pi)
            turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
            corners = (
                np.array([(-length, -width), (length, -width), (length, width), (-length, width)]) @ turn
            )
            if random.random() < 0.8:
                middle = (left + cell / 2, top + cell / 2)
                found.append(shapely.Polygon(on_ground((corners + middle).tolist())))
    return found


def photo(
    polygons: Sequence[shapely.Polygon], rows: int, columns: int, *, bands: int = 4, seed: int = 0
) -> np.ndarray:
    """uint16 (C, H, W): roofs brighter than the ground, with noise."""
    random = np.random.default_rng(seed)
    roof_HW = rasterio.features.rasterize(polygons, (rows, columns), transform=place()) if polygons else 0
    ground = 300 + 40 * np.arange(bands)[:, None, None] + random.normal(0, 20, (bands, rows, columns))
    values: np.ndarray = (ground + 500 * roof_HW).clip(1, 2047).astype(np.uint16)
    return values


def city(folder: Path, *, size: tuple[int, int] = (512, 512), bands: int = 3, seed: int = 0) -> Path:
    """image.tif and roofs.gpkg."""
    polygons = roofs(*size, seed=seed)
    write_raster(folder / "image.tif", photo(polygons, *size, bands=bands, seed=seed), tiled=True)
    write_outlines(folder / "roofs.gpkg", polygons)
    return folder
