"""TIFF files read by window with rasterio (the extra `geo`), so that little of a large one is in memory."""

import importlib
import importlib.util
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags

from segmentation.data.image_io import fit_bands
from segmentation.data.opening import opened, unreadable
from segmentation.data.pixel_range import PixelRange, to_bytes
from segmentation.data.tiff import check_bands, is_tiff
from segmentation.errors import UserError

BOUNDED = {"GDAL_CACHEMAX": 64 * 2**20}
"""GDAL's settings: otherwise its block cache grows to a share of the machine's memory."""

_NO_LIGHT = frozenset({"palette", "cyan"})
_LONGEST_SIDE = 2**23
"""Pixels: twice around the Earth at 10 m. A damaged header claims more, and the plan of its tiles takes gigabytes."""
_MOST_PIXELS = 2**40  # so does the table of an output's blocks


@dataclass(frozen=True)
class Raster:
    """An open TIFF, read by window for a model with `channels` input channels.

    `bands` are the numbers of those that are read; None: all. With `blank` pixels without data are 0, as in training
    with dataset=geotiff.
    """

    path: Path
    file: Any
    channels: int
    pixel_range: PixelRange | None = None
    bands: Sequence[int] | None = None
    blank: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.file.height, self.file.width

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """uint8 (H, W, C) of the window, by the rules of `read_image`.

        Raises `UserError` for a damaged file and for one with other bands than the model takes.
        """
        bands_CHW = self._values(rows, columns)
        pixels_HWC = to_bytes(bands_CHW.transpose(1, 2, 0), self.pixel_range, str(self.path))
        if self.blank:
            pixels_HWC = np.where(self.holds(rows, columns)[..., None], pixels_HWC, np.uint8(0))
        return fit_bands(pixels_HWC, self.channels, str(self.path))

    def holds(self, rows: slice, columns: slice) -> np.ndarray:
        """bool (H, W): where the file has valid data, and finite numbers."""
        with _damage(self.path):
            valid_HW: np.ndarray = self.file.dataset_mask(window=window(rows, columns)) > 0
            if (
                self.blank and "alpha" in self._meanings
            ):  # GDAL only takes that of one or three bands for a mask
                valid_HW &= (
                    self.file.read(self._meanings.index("alpha") + 1, window=window(rows, columns)) > 0
                )
        if self.file.dtypes[0].startswith("float"):
            valid_HW &= np.isfinite(self._values(rows, columns)).all(axis=0)
        return valid_HW

    @property
    def _meanings(self) -> list[str]:
        return [meaning.name for meaning in self.file.colorinterp]

    def _values(self, rows: slice, columns: slice) -> np.ndarray:
        """The values (C, H, W) of the bands that the model takes, in the file's own type."""
        colours = self.channels in (1, 3) or self.blank
        wanted = [band for band, name in enumerate(self._meanings, 1) if not colours or name != "alpha"]
        with _damage(self.path):
            values_CHW: np.ndarray = self.file.read(self.bands or wanted, window=window(rows, columns))
        return values_CHW


@contextmanager
def open_raster(
    path: Path,
    channels: int,
    pixel_range: PixelRange | None,
    bands: Sequence[int] | None = None,
    *,
    blank: bool = False,
) -> Iterator[Raster]:
    """Opens a TIFF with rasterio, which keeps little of it in memory; the options are as in `Raster`.

    Raises `UserError` where rasterio (the extra `geo`) is missing, for a damaged file, complex
    numbers, CMYK and palettes, too few bands, and an image with an EXIF rotation.
    """
    rasterio = import_rasterio()
    check_bands(path)
    _refuse_turned(path)
    # Only TIFF, and no side files: other formats may refer to further files and addresses.
    with rasterio.Env(**BOUNDED, GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
        with _damage(path), without_georeference_warning():
            file = rasterio.open(path.absolute(), driver="GTiff")
        with file:
            meanings, kinds = {meaning.name for meaning in file.colorinterp}, set(file.dtypes)
            if meanings & _NO_LIGHT:
                raise UserError(f"{path} holds {min(meanings)} values: save it in colours.")
            if any(kind.startswith("complex") for kind in kinds):
                raise UserError(f"{path} holds complex numbers: save it with real ones.")
            if max(file.shape) > _LONGEST_SIDE or file.width * file.height > _MOST_PIXELS:
                raise UserError(
                    f"{path} has {file.width}x{file.height} pixels: repair it, or cut it into parts."
                )
            if bands and max(bands) > file.count:
                raise UserError(f"{path} has {file.count} bands; the model was trained on {list(bands)}.")
            yield Raster(path, file, channels, pixel_range, bands, blank)


def without_georeference_warning() -> AbstractContextManager[object]:
    """Hide rasterio's warning about files without a georeference."""
    return warnings.catch_warnings(action="ignore", category=import_rasterio().errors.NotGeoreferencedWarning)


def equal_area(longitude: float, latitude: float) -> str:
    """Lambert's azimuthal equal-area projection of WGS84 around a place in degrees, in metres, as PROJ writes it."""
    return f"+proj=laea +lat_0={latitude:.6f} +lon_0={longitude:.6f} +datum=WGS84 +units=m"


def window(rows: slice, columns: slice) -> tuple[tuple[int, int], tuple[int, int]]:
    """The window in rasterio's notation."""
    return (rows.start, rows.stop), (columns.start, columns.stop)


def import_rasterio() -> Any:
    """The rasterio package. Raises `UserError` if it is missing."""
    return import_geo("rasterio")


def rasterio_errors() -> tuple[type[Exception], ...]:
    """What rasterio raises for a damaged file or value, and what GDAL does where rasterio lets it through."""
    rasterio = import_rasterio()
    return rasterio.errors.RasterioError, rasterio._err.CPLE_BaseError


def import_geo(module: str) -> Any:
    """A module of the packages of the extra `geo`. Raises `UserError` if it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise UserError(
            f"GeoTIFFs, TIFFs by tiles, and vectors need {package}: pip install '.[geo]'."
        ) from error


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    try:
        yield
    except rasterio_errors() as error:
        cause = "it is damaged or no TIFF" if path.exists() else "there is no such file"
        raise unreadable(path, cause) from error


def _refuse_turned(path: Path) -> None:
    orientation = None
    with suppress(Exception), opened(path) as picture:
        orientation = picture.getexif().get(ExifTags.Base.Orientation)
    if orientation not in (None, 1):
        raise UserError(f"{path} is stored turned (EXIF orientation {orientation}): save it upright.")


def read_window(
    path: Path, rows: slice, columns: slice, channels: int, pixel_range: PixelRange | None
) -> np.ndarray | None:
    """uint8 (H, W, C): a window of a TIFF, the same pixels as in the whole of `read_image`.

    None for other files and where rasterio is missing or refuses the file, which is then read whole.
    """
    if not is_tiff(path) or importlib.util.find_spec("rasterio") is None:
        return None
    try:
        with open_raster(path, channels, pixel_range) as raster:
            return raster.read(rows, columns)
    except UserError:
        return None
