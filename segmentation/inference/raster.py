"""TIFF files larger than memory, read by window."""

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags

from segmentation.data.bands import to_bytes
from segmentation.data.images import fit_bands
from segmentation.data.opening import opened, unreadable
from segmentation.errors import UserError

# GDAL would take a share of the machine's memory to keep blocks in.
_CACHE_BYTES = 64 * 2**20
_NO_LIGHT = frozenset({"palette", "cyan"})


@dataclass(frozen=True)
class Raster:
    """An open TIFF, whose windows are given to a model with so many `channels`."""

    path: Path
    file: Any
    channels: int

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
        return fit_bands(to_bytes(bands_CHW.transpose(1, 2, 0)), self.channels, str(self.path))

    def holds(self, rows: slice, columns: slice) -> np.ndarray:
        """bool (H, W): where the file says that it has data."""
        with _damage(self.path):
            valid_HW: np.ndarray = self.file.dataset_mask(window=window(rows, columns)) > 0
        return valid_HW


@contextmanager
def open_raster(path: Path, channels: int) -> Iterator[Raster]:
    """Opens a TIFF with rasterio, which holds little of it in memory.

    Raises `UserError` where rasterio (the extra `geo`) is missing, for a damaged file, pixels that are no
    unsigned integers of 8 or 16 bits, inks and palettes, and a picture that is stored turned.
    """
    rasterio = import_rasterio()
    _refuse_turned(path)
    # Nothing but TIFF, and no file beside it: other formats may name further files and addresses.
    with rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES, GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
        with _damage(path), unplaced():
            file = rasterio.open(path.absolute(), driver="GTiff")
        with file:
            meanings, kinds = {meaning.name for meaning in file.colorinterp}, set(file.dtypes)
            if meanings & _NO_LIGHT:
                raise UserError(
                    f"{path} holds {min(meanings)} values: leave tile out, or save it in colours."
                )
            if not kinds <= {"uint8", "uint16"}:
                raise UserError(f"{path} holds {min(kinds)} pixels: save it with 8 or 16 bits, unsigned.")
            yield Raster(path, file, channels)


def unplaced() -> AbstractContextManager[object]:
    """The context in which a file may lie nowhere on the earth without a warning."""
    return warnings.catch_warnings(action="ignore", category=import_rasterio().errors.NotGeoreferencedWarning)


def window(rows: slice, columns: slice) -> tuple[tuple[int, int], tuple[int, int]]:
    """As rasterio writes it."""
    return (rows.start, rows.stop), (columns.start, columns.stop)


def import_rasterio() -> Any:
    """The package. Raises `UserError` where it is missing."""
    try:
        import rasterio
    except ImportError as error:
        raise UserError(
            "Reading a TIFF by tiles needs rasterio: pip install 'segmentation[geo]', or leave tile out."
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
        raise UserError(f"{path} is stored turned (EXIF orientation {orientation}): leave tile out.")
