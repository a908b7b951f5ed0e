"""Prediction on TIFF files, by window or whole, into TIFF files with the coordinates of the input."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import ExifTags

from segmentation.data.image_io import fit_bands
from segmentation.data.opening import opened, unreadable
from segmentation.data.pixel_range import PixelRange, to_bytes
from segmentation.data.tiff import check_bands
from segmentation.errors import UserError
from segmentation.inference.outputs import (
    FULL,
    OutputPaths,
    mask_values,
    sixteen_bits,
    tint,
    unwritten,
    written_whole,
)
from segmentation.tiling import Tiling, Whole
from segmentation.types import IGNORE_COLOUR, IGNORE_INDEX, Classes

if TYPE_CHECKING:
    from segmentation.inference.predictor import Predictor

# Otherwise GDAL's block cache grows to a share of the machine's memory.
_CACHE_BYTES = 64 * 2**20
_NO_LIGHT = frozenset({"palette", "cyan"})


@dataclass(frozen=True)
class Raster:
    """An open TIFF, read by window for a model with `channels` input channels."""

    path: Path
    file: Any
    channels: int
    pixel_range: PixelRange | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.file.height, self.file.width

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """uint8 (H, W, C) of the window, by the rules of `read_image`.

        Raises `UserError` for a damaged file and for one with other bands than the model takes.
        """
        meanings = [meaning.name for meaning in self.file.colorinterp]
        colours = self.channels in (1, 3)
        wanted = [band for band, name in enumerate(meanings, 1) if not colours or name != "alpha"]
        with _damage(self.path):
            bands_CHW = self.file.read(wanted, window=window(rows, columns))
        pixels_HWC = to_bytes(bands_CHW.transpose(1, 2, 0), self.pixel_range, str(self.path))
        return fit_bands(pixels_HWC, self.channels, str(self.path))

    def holds(self, rows: slice, columns: slice) -> np.ndarray:
        """bool (H, W): where the file has valid data."""
        with _damage(self.path):
            valid_HW: np.ndarray = self.file.dataset_mask(window=window(rows, columns)) > 0
        return valid_HW


@contextmanager
def open_raster(path: Path, channels: int, pixel_range: PixelRange | None) -> Iterator[Raster]:
    """Opens a TIFF with rasterio, which keeps little of it in memory.

    Raises `UserError` where rasterio (the extra `geo`) is missing, for a damaged file, complex
    numbers, CMYK and palettes, and an image with an EXIF rotation.
    """
    rasterio = import_rasterio()
    check_bands(path)
    _refuse_turned(path)
    # Only TIFF, and no side files: other formats may refer to further files and addresses.
    with rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES, GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
        with _damage(path), without_georeference_warning():
            file = rasterio.open(path.absolute(), driver="GTiff")
        with file:
            meanings, kinds = {meaning.name for meaning in file.colorinterp}, set(file.dtypes)
            if meanings & _NO_LIGHT:
                raise UserError(f"{path} holds {min(meanings)} values: save it in colours.")
            if any(kind.startswith("complex") for kind in kinds):
                raise UserError(f"{path} holds complex numbers: save it with real ones.")
            yield Raster(path, file, channels, pixel_range)


def without_georeference_warning() -> AbstractContextManager[object]:
    """Hide rasterio's warning about files without a georeference."""
    return warnings.catch_warnings(action="ignore", category=import_rasterio().errors.NotGeoreferencedWarning)


def window(rows: slice, columns: slice) -> tuple[tuple[int, int], tuple[int, int]]:
    """The window in rasterio's notation."""
    return (rows.start, rows.stop), (columns.start, columns.stop)


def import_rasterio() -> Any:
    """The rasterio package. Raises `UserError` if it is missing."""
    try:
        import rasterio
    except ImportError as error:
        raise UserError(
            "GeoTIFFs, and TIFFs by tiles, need rasterio: pip install 'segmentation[geo]'."
        ) from error
    return rasterio


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    rasterio = import_rasterio()
    try:
        yield
    except rasterio.errors.RasterioError as error:
        cause = "it is damaged or no TIFF" if path.exists() else "there is no such file"
        raise unreadable(path, cause) from error


def _refuse_turned(path: Path) -> None:
    orientation = None
    with suppress(Exception), opened(path) as picture:
        orientation = picture.getexif().get(ExifTags.Base.Orientation)
    if orientation not in (None, 1):
        raise UserError(f"{path} is stored turned (EXIF orientation {orientation}): save it upright.")


_NO_DATA_BINARY = 127  # 0 and 255 are background and foreground
_BLOCK = 256  # pixels: the block size that GIS programs read

Window = tuple[slice, slice]
Sink = Callable[[Window, np.ndarray, np.ndarray], None]
"""Takes a finished window with its labels uint8 (H, W) and its probabilities (K, H, W)."""


def predict_raster(
    source: Path, targets: OutputPaths, tiling: Tiling | Whole, predictor: "Predictor", *, alpha: float
) -> None:
    """Write the predictions that `targets` names as compressed, tiled TIFF files, by window.

    Transform, coordinate system and size are those of the input. The mask holds the values of a mask in PNG: class
    indices with a colour table, 255 where the input has no data; for binary data 0 and 255, and 127 where the input
    has no data. Probabilities are 16 bits, 65535 for 1, one band per class (binary: the foreground's).

    Raises `UserError` where rasterio is missing, for a file that it cannot read, and where the disk has no room.
    """
    trained = predictor.trained
    with open_raster(source, trained.channels, trained.pixel_range) as raster, ExitStack() as files:
        sinks = [
            files.enter_context(_SINKS[kind](path, raster, trained.classes, alpha))
            for kind, path in targets.items()
        ]

        def write(top: int, left: int, found_KHW: np.ndarray) -> None:
            labels_HW = predictor.label(found_KHW)
            height, width = labels_HW.shape
            place = slice(top, top + height), slice(left, left + width)
            for sink in sinks:
                sink(place, labels_HW, found_KHW)

        tiling.run(raster.read, write, size=raster.size, folder=next(iter(targets.values())).parent)


@contextmanager
def _mask(path: Path, raster: Raster, classes: Classes, alpha: float) -> Iterator[Sink]:
    nodata = _NO_DATA_BINARY if classes.binary else IGNORE_INDEX
    with _create(path, raster, count=1, dtype="uint8", nodata=nodata) as file:
        if not classes.binary:
            colours = {**dict(enumerate(classes.palette)), IGNORE_INDEX: IGNORE_COLOUR}
            file.write_colormap(1, {label: (*colour, 255) for label, colour in colours.items()})

        def sink(place: Window, labels_HW: np.ndarray, found_KHW: np.ndarray) -> None:
            values_HW = np.where(raster.holds(*place), mask_values(labels_HW, classes), np.uint8(nodata))
            file.write(values_HW, 1, window=window(*place))

        yield sink


@contextmanager
def _overlay(path: Path, raster: Raster, classes: Classes, alpha: float) -> Iterator[Sink]:
    with _create(path, raster, count=3, dtype="uint8", photometric="RGB", predictor=2) as file:

        def sink(place: Window, labels_HW: np.ndarray, found_KHW: np.ndarray) -> None:
            tinted_HWC = tint(raster.read(*place), labels_HW, classes, alpha)
            file.write(tinted_HWC.transpose(2, 0, 1), window=window(*place))

        yield sink


@contextmanager
def _probability(path: Path, raster: Raster, classes: Classes, alpha: float) -> Iterator[Sink]:
    with _create(path, raster, count=classes.outputs, dtype="uint16") as file:
        file.descriptions = classes.names[-classes.outputs :]
        file.scales = (1 / FULL,) * classes.outputs

        def sink(place: Window, labels_HW: np.ndarray, found_KHW: np.ndarray) -> None:
            file.write(sixteen_bits(found_KHW), window=window(*place))

        yield sink


_SINKS = {"mask": _mask, "overlay": _overlay, "probability": _probability}


@contextmanager
def _create(path: Path, raster: Raster, **profile: Any) -> Iterator[Any]:
    rasterio = import_rasterio()
    height, width = raster.size
    source = raster.file
    # A transform without a coordinate system is kept, as from a world file.
    place = {"transform": source.transform} if not source.transform.is_identity else {}
    place |= {"crs": source.crs} if source.crs else {}
    with written_whole(path) as part:
        with without_georeference_warning():
            file = rasterio.open(
                part,
                "w",
                driver="GTiff",
                height=height,
                width=width,
                tiled=True,
                blockxsize=_BLOCK,
                blockysize=_BLOCK,
                compress="deflate",
                bigtiff="if_safer",
                **place,
                **profile,
            )
        try:
            with file:
                yield file
            _check(part)
        except rasterio.errors.RasterioError as error:
            raise unwritten(path, "the disk may be full") from error


def _check(part: Path) -> None:
    # GDAL writes when it closes the file and does not report a full disk.
    with without_georeference_warning(), import_rasterio().open(part.absolute(), driver="GTiff") as file:
        for _, block in file.block_windows(1):
            file.read(window=block)
