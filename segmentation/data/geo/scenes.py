"""Scenes: GeoTIFFs that lie side by side or over each other, as one grid of pixels that is read by window.

Files of one scene may have different coordinate systems, resolutions and rotations: GDAL warps what is read of them to
the scene's grid. Whole scenes are never read. Overviews are left alone: pixels come from the files' full resolution.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from segmentation.data import remote
from segmentation.data.opening import unreadable
from segmentation.data.raster import BOUNDED, import_geo, rasterio_errors, without_georeference_warning
from segmentation.errors import UserError

# Others may refer to further files and addresses.
_JPEG2000 = (".jp2", ".j2k")

_ALIGNED = 0.01  # pixels: files whose pixels are off by less are read as they are
_EDGE_POINTS = 21  # of each side of a rectangle that another coordinate system bends
_OTHER_UNIT = 1000  # how many times: resolutions that differ by more are of another unit, such as degrees
_COARSER = 1.5  # how many times: from here on pixels are means rather than interpolated


@dataclass(frozen=True)
class Header:
    """What a file says about itself; `name` is a path, or an address that GDAL opens.

    `background` says whether it holds labels and calls 0 no data, as GIS programs do with the background.
    """

    name: str
    crs: Any
    transform: Any
    size: tuple[int, int]
    bands: tuple[int, ...]  # numbers of the bands that are not alpha
    alpha: int | None
    types: tuple[str, ...]
    masked: bool  # whether it says which pixels hold data, by a no-data value, alpha or a mask
    tiled: bool
    background: bool = False

    @property
    def complete(self) -> bool:
        """Whether all pixels hold data: floats may be nan."""
        return not self.masked and not self.types[0].startswith("float")


@dataclass(frozen=True)
class Grid:
    """The pixels of a scene: `size` (H, W), and `transform` from (column, row) to coordinates of the system `crs`."""

    crs: Any
    transform: Any
    size: tuple[int, int]

    def pixels_of(self, points_N2: np.ndarray, crs: Any) -> np.ndarray:
        """Points (N, 2) of x and y in the system `crs` -> (N, 2) of column and row; nan where there is no image."""
        points_N2 = warped(points_N2, crs, self.crs)
        return applied(~self.transform, points_N2)

    def window_transform(self, rows: slice, columns: slice) -> Any:
        """The transform of the pixels of a window."""
        return _shifted(self.transform, columns.start, rows.start)

    def corners(self, rows: slice, columns: slice) -> np.ndarray:
        """The four corners (4, 2) of a window, x and y in the system `crs`."""
        left, top, right, bottom = columns.start, rows.start, columns.stop, rows.stop
        return applied(
            self.transform, np.array([(left, top), (right, top), (right, bottom), (left, bottom)], float)
        )

    def points_of(self, pixels_N2: np.ndarray, crs: Any) -> np.ndarray:
        """The inverse of `pixels_of`."""
        return warped(applied(self.transform, pixels_N2), self.crs, crs)


@dataclass(frozen=True)
class Source:
    """A file's place in a scene: `box` is (top, left, bottom, right) in pixels; aligned files need no warping."""

    header: Header
    box: tuple[int, int, int, int]
    aligned: bool
    coarser: float  # how many times larger the scene's pixels are


@dataclass(frozen=True, eq=False)
class Scene:
    """Files on one grid. Where they overlap, the first one with data counts."""

    name: str
    grid: Grid
    sources: tuple[Source, ...]
    categories: bool = False  # values are names of something and are not to be mixed

    def read(
        self, rows: slice, columns: slice, bands: Sequence[int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The values (C, H, W) of the window in the files' own type, 0 without data; bool (H, W): where there are data.

        `bands` are numbers from 1; None: all but alpha. Raises `UserError` for a damaged file and for bands that a file
        does not have.
        """
        height, width = rows.stop - rows.start, columns.stop - columns.start
        wanted = list(bands or self.sources[0].header.bands)
        kind = np.result_type(*(source.header.types[0] for source in self.sources))
        values_CHW = np.zeros((len(wanted), height, width), kind)
        valid_HW = np.zeros((height, width), bool)
        background_HW = np.zeros((height, width), bool)
        for source in self._touching(rows, columns):
            target, window = _overlap(source, rows, columns)
            with self._opened(source) as file:
                if max(wanted) > file.count:
                    raise UserError(
                        f"{source.header.name} has {file.count} bands, not {max(wanted)}: correct dataset.bands,"
                        " or leave this file out."
                    )
                part_CHW = file.read(wanted, window=window)
                held_HW = _held(file, source, window, part_CHW.shape[1:])
            if part_CHW.dtype.kind == "f":
                held_HW &= np.isfinite(part_CHW).all(axis=0)
            if source.header.background:  # unless another file has a label there
                background_HW[target] |= held_HW
                held_HW &= part_CHW.any(axis=0)
            held_HW &= ~valid_HW[target]
            np.copyto(values_CHW[:, *target], part_CHW, where=held_HW, casting="unsafe")
            valid_HW[target] |= held_HW
            if valid_HW.all():
                break
        return values_CHW, valid_HW | background_HW

    def holds(self, rows: slice, columns: slice, step: int, bands: Sequence[int] | None = None) -> np.ndarray:
        """bool: where there are data, at every `step`th pixel or so of the window, whose sides it divides.

        `bands` are as in `read`; only those of floats are read.
        """
        shape = (rows.stop - rows.start) // step, (columns.stop - columns.start) // step
        valid_HW = np.zeros(shape, bool)
        for source in self._touching(rows, columns):
            target, window = _overlap(source, rows, columns)
            coarse = tuple(
                slice(side.start // step, max(side.start // step + 1, side.stop // step)) for side in target
            )
            sides = valid_HW[coarse].shape
            if 0 in sides:
                continue
            if source.aligned and source.header.complete:
                valid_HW[coarse] = True
                continue
            with self._opened(source) as file:
                held_HW = _held(file, source, window, sides)
                if source.header.types[0].startswith("float"):
                    values_CHW = file.read(list(bands or source.header.bands), window=window, out_shape=sides)
                    held_HW &= np.isfinite(values_CHW).all(axis=0)
                valid_HW[coarse] |= held_HW
        return valid_HW

    def _touching(self, rows: slice, columns: slice) -> Iterator[Source]:
        for source in self.sources:
            top, left, bottom, right = source.box
            if top < rows.stop and rows.start < bottom and left < columns.stop and columns.start < right:
                yield source

    @contextmanager
    def _opened(self, source: Source) -> Iterator[Any]:
        """The file, or what GDAL warps of it, in the pixels of its box. It is opened for each window: handles cannot be
        shared by threads and processes.
        """
        rasterio = import_geo("rasterio")
        with opened_raster(source.header.name) as file:
            if source.aligned:
                yield file
                return
            top, left, bottom, right = source.box
            mixed = (
                rasterio.enums.Resampling.average
                if source.coarser > _COARSER
                else rasterio.enums.Resampling.bilinear
            )
            with import_geo("rasterio.vrt").WarpedVRT(
                file,
                crs=self.grid.crs,
                transform=_shifted(self.grid.transform, left, top),
                height=bottom - top,
                width=right - left,
                resampling=rasterio.enums.Resampling.nearest if self.categories else mixed,
                # Otherwise what lies beside a turned file would count as data.
                add_alpha=not source.header.masked,
                **({"src_nodata": None} if source.header.background else {}),
                warp_mem_limit=64,
            ) as view:
                yield view


def _held(file: Any, source: Source, window: Any, size: tuple[int, int]) -> np.ndarray:
    """bool (H, W): where an open file has data, by its no-data value, its mask, or its alpha."""
    header = source.header
    held_HW = np.ones(size, bool)
    if header.masked and not header.background:
        held_HW &= file.dataset_mask(window=window, out_shape=size) > 0
    # GDAL only takes alpha of one or three bands of 8 or 16 bits for a mask. The last band is what `_opened` added.
    alpha = header.alpha or (None if header.masked or source.aligned else file.count)
    if alpha is not None:
        held_HW &= file.read(alpha, window=window, out_shape=size) > 0
    return held_HW


def _overlap(
    source: Source, rows: slice, columns: slice
) -> tuple[tuple[slice, slice], tuple[tuple[int, int], tuple[int, int]]]:
    """Where the file lies in the window, and the part of the file that does."""
    top, left, bottom, right = source.box
    first, last = max(rows.start, top), min(rows.stop, bottom)
    start, stop = max(columns.start, left), min(columns.stop, right)
    target = (
        slice(first - rows.start, last - rows.start),
        slice(start - columns.start, stop - columns.start),
    )
    return target, ((first - top, last - top), (start - left, stop - left))


@contextmanager
def opened_raster(name: str) -> Iterator[Any]:
    """A file, or an address that GDAL opens, with rasterio. Raises `UserError` where it cannot be read."""
    rasterio = import_geo("rasterio")
    with rasterio.Env(**BOUNDED, **(remote.gdal_patience() if is_address(name) else {})):
        try:
            with rasterio.open(
                name, driver="JP2OpenJPEG" if name.lower().endswith(_JPEG2000) else "GTiff"
            ) as file:
                yield file
        except rasterio_errors() as error:
            if is_address(name):
                raise UserError(
                    f"{name} cannot be read: correct the address, or copy the file. Its server must answer within"
                    f" {remote.SECONDS} s, and send parts of files (range requests)."
                ) from error
            if not Path(name).exists():
                raise UserError(f"There is no file {name}.") from error
            raise unreadable(Path(name), "it is damaged, or no GeoTIFF or JPEG 2000") from error


def is_address(name: str) -> bool:
    """Whether GDAL is to open it elsewhere than in a local file."""
    return "://" in name or name.startswith("/vsi")


def read_headers(names: Sequence[str], *, categories: bool = False) -> list[Header]:
    """The headers of files; those of `categories`, labels, may have a palette.

    Raises `UserError` for a file that cannot be used, or says not where on Earth it lies.
    """
    # They are refused instead. Threads share the filters of warnings, so these are set outside.
    with without_georeference_warning(), ThreadPoolExecutor() as pool:
        return list(pool.map(lambda name: _header(name, categories), names))


def _header(name: str, categories: bool) -> Header:
    with opened_raster(name) as file:
        meanings = [meaning.name for meaning in file.colorinterp]
        # A system of a building site, without a place on Earth, is neither.
        known = file.crs is not None and (file.crs.is_geographic or file.crs.is_projected)
        if not known or file.transform.is_identity:
            raise UserError(
                f"{name} does not say where on Earth it lies: dataset=pairs reads plain pictures; gdal_edit.py -a_srs"
                " and -a_ullr add a place."
            )
        what = "complex" if file.dtypes[0].startswith("complex") else meanings[0]
        if what == "complex" or (what == "palette" and not categories):
            raise UserError(f"{name} holds {what} values: save it with the bands themselves.")
        if file.crs.is_geographic and file.bounds.left < 180 < file.bounds.right:
            raise UserError(
                f"{name} lies across 180 degrees of longitude, where coordinates jump: save it in another system, such"
                " as UTM ('gdalwarp -t_srs EPSG:32601 FILE NEW')."
            )
        background = categories and file.nodata == 0
        plain = background or all(
            {flag.name for flag in flags} == {"all_valid"} for flags in file.mask_flag_enums
        )
        return Header(
            name,
            file.crs,
            file.transform,
            (file.height, file.width),
            tuple(number for number, meaning in enumerate(meanings, 1) if meaning != "alpha"),
            meanings.index("alpha") + 1 if "alpha" in meanings else None,
            tuple(file.dtypes),
            not plain or "alpha" in meanings,
            bool(file.profile.get("tiled")) or file.height * file.width < 2**22,
            background,
        )


def find_scenes(headers: Sequence[Header], *, resolution: float | None, near: int) -> list[Scene]:
    """The scenes of files: those that are less than `near` pixels apart are one.

    A scene has the coordinate system and the pixels of its first file; `resolution` is the side of its pixels, in units
    of that system. Raises `UserError` where it is far from that of the file, as in metres for degrees.
    """
    shapely = import_geo("shapely")
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs: list[np.ndarray] = []
    for crs in dict.fromkeys(header.crs for header in headers):
        boxes = [_bounding_box(header, crs) for header in headers]
        own = [index for index, header in enumerate(headers) if header.crs == crs]
        reach = np.array(
            [near * abs(headers[index].transform.a or headers[index].transform.b) for index in own]
        )
        wider = shapely.buffer([boxes[index] for index in own], reach, join_style="mitre")
        found = shapely.STRtree(boxes).query(wider, predicate="intersects")
        pairs.append(np.stack([np.array(own)[found[0]], found[1]]))
    one, other = np.concatenate(pairs, axis=1)
    graph = coo_array((np.ones(len(one)), (one, other)), shape=(len(headers),) * 2)
    _, scene_of = connected_components(graph, directed=False)
    groups = [
        [headers[index] for index in np.flatnonzero(scene_of == each).tolist()]
        for each in dict.fromkeys(scene_of.tolist())
    ]
    return [Scene("", *_on_one_grid(group, _pixels(group[0], resolution))) for group in groups]


def placed(headers: Sequence[Header], scenes: Sequence[Scene]) -> list[Scene]:
    """For each scene those of the files that touch it, on its grid: rasters of labels."""
    shapely = import_geo("shapely")
    trees = {
        crs: shapely.STRtree([_bounding_box(header, crs) for header in headers])
        for crs in dict.fromkeys(scene.grid.crs for scene in scenes)
    }
    found = []
    for scene in scenes:
        height, width = scene.grid.size
        whole = shapely.polygons(scene.grid.corners(slice(0, height), slice(0, width)))
        near = np.sort(trees[scene.grid.crs].query(shapely.envelope(whole)))
        found.append(_placed([headers[index] for index in near.tolist()], scene))
    return found


def _placed(headers: Iterable[Header], scene: Scene) -> Scene:
    grid = scene.grid
    sources = [_source(header, grid.transform, grid.crs) for header in headers]
    height, width = grid.size
    touching = tuple(
        source
        for source in sources
        if source is not None and source.box[0] < height and source.box[1] < width and min(source.box[2:]) > 0
    )
    return Scene(scene.name, grid, touching, categories=True)


def _on_one_grid(headers: Sequence[Header], transform: Any) -> tuple[Grid, tuple[Source, ...]]:
    crs = headers[0].crs
    found = [_source(header, transform, crs) for header in headers]
    sources = [source for source in found if source is not None]
    boxes = np.array([source.box for source in sources])
    top, left = boxes[:, :2].min(axis=0).tolist()
    bottom, right = boxes[:, 2:].max(axis=0).tolist()
    grid = Grid(crs, _shifted(transform, left, top), (bottom - top, right - left))
    return grid, tuple(
        source for header in headers if (source := _source(header, grid.transform, crs)) is not None
    )


def _pixels(header: Header, resolution: float | None) -> Any:
    """The transform of a scene that begins with the file."""
    if resolution is None:
        return header.transform
    along, down, left, across, up, top = header.transform[:6]
    side = np.hypot(along, across)
    wide, high = resolution / side, resolution / np.hypot(down, up)
    if not 1 / _OTHER_UNIT < wide < _OTHER_UNIT:
        raise UserError(
            f"dataset.resolution={resolution:g}: the pixels of {header.name} have sides of {side:g}: give a number in"
            " the same unit."
        )
    affine = import_geo("rasterio").Affine
    return affine(along * wide, down * high, left, across * wide, up * high, top)


def _shifted(transform: Any, columns: int, rows: int) -> Any:
    """The transform of the pixels that begin at a column and a row."""
    left, top = applied(transform, np.array([[columns, rows]], float))[0].tolist()
    return import_geo("rasterio").Affine(transform.a, transform.b, left, transform.d, transform.e, top)


def applied(transform: Any, points_N2: np.ndarray) -> np.ndarray:
    """Points (N, 2) of column and row -> (N, 2) of x and y."""
    matrix = np.array([[transform.a, transform.d], [transform.b, transform.e]])
    return points_N2 @ matrix + np.array([transform.c, transform.f])


def _source(header: Header, transform: Any, crs: Any) -> Source | None:
    """The file's place on the grid; None where the coordinate system has no place for it."""
    pixels_N2 = Grid(crs, transform, (0, 0)).pixels_of(_outline(header), header.crs)
    if not np.isfinite(pixels_N2).all():
        return None
    (left, top), (right, bottom) = pixels_N2.min(axis=0), pixels_N2.max(axis=0)
    sides = np.array([top, left, bottom, right])
    box = np.rint(sides)
    own, others = ((each.a, each.b, each.d, each.e) for each in (header.transform, transform))
    aligned = header.crs == crs and np.abs(box - sides).max() < _ALIGNED and np.allclose(own, others)
    if not aligned:
        box = np.concatenate([np.floor(sides[:2] + _ALIGNED), np.ceil(sides[2:] - _ALIGNED)])
    coarser = header.size[0] * header.size[1] / max(1.0, (bottom - top) * (right - left))
    first, second, third, fourth = (int(side) for side in box)
    return Source(header, (first, second, third, fourth), bool(aligned), float(np.sqrt(coarser)))


def _outline(header: Header) -> np.ndarray:
    """Points (N, 2) along the four sides of a file, in its own system."""
    height, width = header.size
    along = np.linspace(0, 1, _EDGE_POINTS)
    zero, one = np.zeros_like(along), np.ones_like(along)
    columns = np.concatenate([along, one, along, zero]) * width
    rows = np.concatenate([zero, along, one, along]) * height
    return applied(header.transform, np.column_stack((columns, rows)))


def _bounding_box(header: Header, crs: Any) -> Any:
    """The box around a file in another system; empty where that system does not know the place."""
    shapely = import_geo("shapely")
    points_N2 = warped(_outline(header), header.crs, crs)
    points_N2 = points_N2[np.isfinite(points_N2).all(axis=1)]
    return shapely.envelope(shapely.MultiPoint(points_N2))


def warped(points_N2: np.ndarray, source: Any, target: Any) -> np.ndarray:
    """Points (N, 2) of x and y in one coordinate system -> in another; not finite where that has no place for them."""
    if source == target or not len(points_N2):
        return points_N2
    warp = import_geo("rasterio.warp")
    try:
        return np.column_stack(warp.transform(source, target, points_N2[:, 0], points_N2[:, 1]))
    except rasterio_errors():
        return np.full(points_N2.shape, np.nan)


def named(scenes: Sequence[Scene]) -> list[Scene]:
    """Scenes with the name of their first file, and as many of its folders as tell them apart, at least one."""
    parts = [Path(scene.sources[0].header.name.replace(":", "")).with_suffix("").parts for scene in scenes]
    for depth in range(2, max(2, *map(len, parts)) + 1):
        names = ["/".join(each[-depth:]).lstrip("/") for each in parts]
        if len(set(names)) == len(names):
            break
    return [replace(scene, name=name) for scene, name in zip(scenes, names, strict=True)]


def place(scene: Scene) -> str:
    """`36.11° N, 115.17° W`: the middle of a scene, for messages."""
    height, width = scene.grid.size
    middle = np.array([[width / 2, height / 2]])
    longitude, latitude = scene.grid.points_of(middle, "EPSG:4326")[0].tolist()
    return f"{abs(latitude):.2f}° {'NS'[latitude < 0]}, {abs(longitude):.2f}° {'EW'[longitude < 0]}"
