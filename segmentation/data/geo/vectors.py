"""Outlines in vector files (GeoPackage, GeoJSON, Shapefile, FlatGeobuf), and how they become pixels of a scene."""

import posixpath
import sqlite3
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from segmentation.data.files import first_of
from segmentation.data.geo.scenes import Grid, Scene, is_address, warped
from segmentation.data.raster import import_geo
from segmentation.data.remote import check_address, fetch
from segmentation.errors import UserError, closest

# Only these formats are handed to GDAL: others may refer to further files and addresses.
_STARTS = (b"SQLite format 3\0", b"{", b"\0\0'\n", b"fgb")
_ENDINGS = (".gpkg", ".geojson", ".json", ".shp", ".fgb")
_BESIDE = (".shx", ".dbf", ".prj", ".cpg")  # the files of a Shapefile, of which the first is needed
_POLYGONS = (3, 6)  # shapely's numbers of polygons and multipolygons
_COLLECTION = 7
_WGS84 = "EPSG:4326"


@dataclass(frozen=True, eq=False)
class Outlines:
    """Polygons of vector files in their system `crs`, valid and without multipolygons; what each is (N,) or None."""

    polygons: np.ndarray
    values: np.ndarray | None
    crs: Any
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """What the polygons are, in alphabetical order."""
        return [] if self.values is None else sorted(set(self.values.tolist()))

    @cached_property
    def tree(self) -> Any:
        """The polygons by place."""
        return import_geo("shapely").STRtree(self.polygons)


def is_vector(name: str) -> bool:
    """Whether a file is of one of the vector formats, by its first bytes; False if there is no such file.

    That of an address is known by its ending.
    """
    if is_address(name):
        return posixpath.splitext(urlsplit(name).path)[1].lower() in _ENDINGS
    return _is_vector(Path(name))


def _is_vector(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(_STARTS)


def read_outlines(
    names: Sequence[str | Path], *, layer: str | None = None, attribute: str | None = None
) -> Outlines:
    """The polygons of files, all in the system of the first; `attribute` is the column that says what each is.

    Those at addresses (`data/remote.py` says which) are copied for as long as they are read.

    Invalid polygons are repaired, open rings closed, points and lines left out, each with a note. Raises `UserError`
    for a file that cannot be read, for a layer or an attribute that it does not have, where there is no polygon, and
    where only some of the files name a coordinate system.
    """
    read = [_read(str(name), layer, attribute) for name in names]
    first = read[0]
    unplaced = [str(name) for name, each in zip(names, read, strict=True) if each.crs is None]
    if unplaced and len(unplaced) < len(read):
        raise UserError(
            f"{unplaced[0]} names no coordinate system, and other outlines do: give it one, such as"
            " 'ogr2ogr -a_srs EPSG:32633 NEW.gpkg FILE'."
        )
    moved = [
        first,
        *(replace(each, polygons=_warped(each.polygons, each.crs, first.crs)) for each in read[1:]),
    ]
    values = (
        None
        if attribute is None
        else np.concatenate([each.values for each in moved if each.values is not None])
    )
    notes = tuple(note for each in moved for note in each.notes)
    return Outlines(np.concatenate([each.polygons for each in moved]), values, first.crs, notes)


@contextmanager
def _copied(name: str) -> Iterator[Path]:
    """The file, or a copy of what lies at an address."""
    if not is_address(name):
        yield Path(name)
        return
    check_address(name, "labels and extent")
    with TemporaryDirectory() as folder:
        path = Path(folder) / posixpath.basename(name)
        fetch(name, path)
        if path.suffix.lower() == ".shp":
            for ending in _BESIDE:
                _fetch_if_there(
                    name[:-4] + (ending.upper() if path.suffix == ".SHP" else ending), path.parent
                )
        yield path


def _fetch_if_there(name: str, folder: Path) -> None:
    try:
        fetch(name, folder / posixpath.basename(name))
    except UserError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise


def _read(name: str, layer: str | None, attribute: str | None) -> Outlines:
    with _copied(name) as path:
        try:
            return _outlines(path, layer, attribute)
        except UserError as error:
            raise UserError(str(error).replace(str(path), name)) from error.__cause__


def _outlines(path: Path, layer: str | None, attribute: str | None) -> Outlines:
    pyogrio, shapely = import_geo("pyogrio"), import_geo("shapely")
    if not _is_vector(path):
        cause = "is no GeoPackage, GeoJSON, Shapefile or FlatGeobuf" if path.exists() else "does not exist"
        raise UserError(f"{path} {cause}: give outlines in one of these formats.")
    views = _views(path)
    try:
        layer = _layer(path, layer)
        if layer.lower() in views:
            raise UserError(f"{path}: {layer} is a view, a query that may take for ever: save it as a layer.")
        columns = [str(name) for name in pyogrio.read_info(path, layer=layer)["fields"]]
        if attribute is not None and attribute not in columns:
            raise UserError(
                f"dataset.attribute={attribute}: {path} has no such column.{closest(attribute, columns)}"
            )
        with warnings.catch_warnings(
            action="ignore", category=RuntimeWarning
        ):  # GDAL's remarks on the format
            meta, _, geometry, fields = pyogrio.raw.read(
                path, layer=layer, columns=[] if attribute is None else [attribute], force_2d=True
            )
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise UserError(f"{path} cannot be read: {_fault(path)}.") from error
    stored = np.array([] if geometry is None else geometry, dtype=object)
    polygons = shapely.from_wkb(stored, on_invalid="ignore")
    values = None if attribute is None else np.array([_text(value) for value in fields[0]], dtype=object)
    odd = shapely.is_missing(polygons) & np.array([each is not None for each in stored], bool)
    polygons[odd] = shapely.from_wkb(stored[odd], on_invalid="fix")
    lost = int(shapely.is_missing(polygons[odd]).sum())
    polygons, values, notes = _cleaned(polygons, values, path, attribute)
    if closed := int(odd.sum()) - lost:
        notes += (
            f"{path.name}: {closed} of {len(stored)} outlines ended elsewhere than they began and were closed.",
        )
    if lost:
        notes += (
            f"{path.name}: {lost} of {len(stored)} shapes cannot be read as outlines and are left out.",
        )
    crs = _placed(meta["crs"])
    if crs is None:
        notes += (f"{path.name} names no coordinate system: that of the images is taken.",)
    return Outlines(polygons, values, crs, notes)


def _views(path: Path) -> set[str]:
    """The views of a GeoPackage. Raises `UserError` where its own tables are such."""
    with path.open("rb") as file:
        if not file.read(16).startswith(_STARTS[0]):
            return set()
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as known:
            names = known.execute("select lower(name) from sqlite_master where type = 'view'").fetchall()
    except sqlite3.Error as error:
        raise UserError(f"{path} cannot be read: {_fault(path)}.") from error
    views = {str(name) for (name,) in names}
    if any(name.startswith("gpkg_") for name in views):
        raise UserError(f"{path} has views in place of a GeoPackage's tables: save it anew.")
    return views


def _fault(path: Path) -> str:
    indexed = path.suffix.lower() != ".shp" or any(
        path.with_suffix(ending).is_file() for ending in (".shx", ".SHX")
    )
    return "it is damaged. Save it anew" if indexed else "its .shx is missing. Put it beside, or save it anew"


def _placed(crs: str | None) -> str | None:
    """The system, or None where it has no place on Earth, as GeoPackage's "undefined Cartesian" one."""
    if not crs:
        return None
    known = import_geo("rasterio").crs.CRS.from_user_input(crs)
    return crs if known.is_geographic or known.is_projected else None


def _layer(path: Path, layer: str | None) -> str:
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
        found = import_geo("pyogrio").list_layers(path)
    # Tables without shapes are no layers to choose from: QGIS keeps styles in one.
    layers = [str(name) for name, kind in found if kind is not None]
    if not layers:
        raise UserError(f"{path} holds no outline: give a layer of polygons.")
    if layer is not None and layer not in layers:
        raise UserError(f"dataset.layer={layer}: {path} has no such layer.{closest(layer, layers)}")
    if layer is None and len(layers) != 1:
        raise UserError(
            f"{path} has {len(layers)} layers: choose one with dataset.layer: {first_of(layers, 8)}."
        )
    return layer or layers[0]


def _text(value: Any) -> str:
    """A class's name: 3 and 3.0 are the same; an empty cell is ""."""
    if value is None or value != value:
        return ""
    whole = isinstance(value, float | np.floating) and float(value).is_integer()
    return str(int(value) if whole else value).strip()


def _cleaned(
    shapes: np.ndarray, values: np.ndarray | None, path: Path, attribute: str | None
) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    shapely = import_geo("shapely")
    notes = []
    kept = ~(shapely.is_missing(shapes) | shapely.is_empty(shapes))
    flat = kept & ~np.isin(shapely.get_type_id(shapes), (*_POLYGONS, _COLLECTION))
    if flat.any():
        notes.append(
            f"{path.name}: {flat.sum()} of {len(shapes)} shapes are points or lines, which are left out."
        )
    kept &= ~flat
    if values is not None and (unnamed := kept & (values == "")).any():
        notes.append(f"{path.name}: {unnamed.sum()} shapes have no {attribute} and are left out.")
        kept &= ~unnamed
    shapes, numbers = shapes[kept], np.flatnonzero(kept)
    broken = ~shapely.is_valid(shapes)
    if broken.any():
        notes.append(
            f"{path.name}: {broken.sum()} of {len(shapes)} outlines cross themselves and were repaired."
        )
        shapes = shapes.copy()
        shapes[broken] = shapely.make_valid(shapes[broken])
    # A repaired outline may be a collection with lines, a collection may hold multipolygons.
    for _ in range(2):
        shapes, part_of = shapely.get_parts(shapes, return_index=True)
        numbers = numbers[part_of]
    areas = shapely.get_type_id(shapes) == _POLYGONS[0]
    if not areas.any():
        named = "" if values is None else f" with a {attribute}"
        raise UserError(f"{path} holds no outline{named}: give a layer of polygons.")
    return shapes[areas], None if values is None else values[numbers[areas]], tuple(notes)


def _warped(shapes: np.ndarray, source: Any, target: Any) -> np.ndarray:
    if source == target or source is None or target is None:
        return shapes
    moved: np.ndarray = import_geo("shapely").transform(shapes, lambda points: warped(points, source, target))
    return moved


@dataclass(frozen=True, eq=False)
class Burnt:
    """Outlines on a scene, in its coordinate system, with the label of each, larger ones first."""

    grid: Grid
    polygons: np.ndarray
    labels: np.ndarray
    tree: Any
    unlabelled: int
    all_touched: bool

    @property
    def found(self) -> int:
        """The number of outlines on the scene."""
        return len(self.polygons)

    def touching(self, rows: slice, columns: slice) -> np.ndarray:
        """The numbers of the outlines in a window, in order."""
        window = import_geo("shapely").polygons(self.grid.corners(rows, columns))
        found: np.ndarray = np.sort(self.tree.query(window, predicate="intersects"))
        return found

    def mask(self, rows: slice, columns: slice) -> np.ndarray:
        """uint8 (H, W): the labels of the window. A pixel is in an outline if its centre is, or if it is touched."""
        size = rows.stop - rows.start, columns.stop - columns.start
        found = self.touching(rows, columns)
        if not len(found):
            return np.full(size, self.unlabelled, np.uint8)
        burnt: np.ndarray = import_geo("rasterio.features").rasterize(
            zip(self.polygons[found], self.labels[found].tolist(), strict=True),
            size,
            fill=self.unlabelled,
            transform=self.grid.window_transform(rows, columns),
            all_touched=self.all_touched,
            dtype="uint8",
        )
        return burnt


def burn(
    outlines: Outlines, scene: Scene, labels: Mapping[str, int] | int, unlabelled: int, *, all_touched: bool
) -> Burnt:
    """The outlines that touch the scene; `labels` is the label of each name, or of all. Negative ones are left out.

    Outlines without a coordinate system are taken to be in the scene's.
    """
    shapely = import_geo("shapely")
    crs = outlines.crs or scene.grid.crs
    near = np.arange(len(outlines.polygons))
    around = _around(scene.grid, crs)
    if around is not None:
        near = np.sort(outlines.tree.query(around))
    polygons = _warped(outlines.polygons[near], crs, scene.grid.crs)
    known = np.isfinite(shapely.bounds(polygons)).all(axis=1)
    if isinstance(labels, int):
        label_N = np.full(len(near), labels)
    else:
        assert outlines.values is not None
        label_N = np.array([labels[name] for name in outlines.values[near]], int)
    height, width = scene.grid.size
    whole = shapely.polygons(scene.grid.corners(slice(0, height), slice(0, width)))
    kept = known & (label_N >= 0)
    kept[kept] &= shapely.intersects(polygons[kept], whole)
    polygons, label_N = polygons[kept], label_N[kept].astype(np.uint8)
    order = np.argsort(-shapely.area(polygons), kind="stable")
    polygons, label_N = polygons[order], label_N[order]
    return Burnt(scene.grid, polygons, label_N, shapely.STRtree(polygons), unlabelled, all_touched)


def _around(grid: Grid, crs: Any) -> Any:
    """A box around the scene in another system, a tenth larger, because its sides may be bent there."""
    shapely = import_geo("shapely")
    height, width = grid.size
    along = np.linspace(-0.05, 1.05, 23)
    columns, rows = (side.ravel() for side in np.meshgrid(along * width, along * height))
    points_N2 = grid.points_of(np.column_stack((columns, rows)), crs)
    if not np.isfinite(points_N2).all():
        return None
    return shapely.envelope(shapely.MultiPoint(points_N2))
