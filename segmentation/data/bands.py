"""Images that are more than a picture: any number of bands, from TIFF and from numpy's files."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import TiffImagePlugin

from segmentation.data.opening import MAX_PIXELS, opened, silent_pillow, unreadable
from segmentation.errors import UserError

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # TIFF and BigTIFF in both orders of bytes
_NO_LIGHT = frozenset({"palette", "cyan"})


def is_tiff(path: Path) -> bool:
    """By its first bytes; False for a file that is not there."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) in _MAGIC


def read_array(path: Path) -> np.ndarray:
    """A .npy file of uint8 or uint16, (H, W, bands) or (H, W), as uint8 (H, W, bands).

    Raises `UserError` for a file that is missing, damaged or of another shape or type; objects in it, which
    could run code, are not loaded.
    """
    try:
        # Mapped, so that a header cannot ask for more memory than the file is long.
        values: np.ndarray = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # a damaged header shows itself in many ways
        cause = getattr(error, "strerror", None) or "it is damaged or holds no plain array"
        raise unreadable(path, cause) from error
    if values.ndim == 2:
        values = values[:, :, None]
    if values.ndim != 3 or 0 in values.shape:
        raise UserError(f"{path} has the shape {values.shape}: save it as (height, width, bands).")
    _check_size(path, values.shape[1], values.shape[0])
    return _checked_bytes(np.array(values), path)


def read_tiff(path: Path, *, alpha: bool) -> np.ndarray:
    """The bands of a TIFF that Pillow cannot read, in their order, as uint8 (H, W, bands).

    With `alpha` off a band that is marked as such is left out. RGB with one more band needs nothing else;
    other TIFFs need rasterio (the extra `geo`).
    Raises `UserError` where it is missing, for a damaged file, and for pixels that are no integers of 8 or
    16 bits, or inks or places in a palette.
    """
    if _is_rgb_and_one(path):
        values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if values is not None and values.shape[2:] == (4,):
            return _checked_bytes(cv2.cvtColor(values, cv2.COLOR_BGRA2RGBA), path)
    rasterio = _import_rasterio(path)
    try:
        # Nothing but TIFF, and no file beside it: other formats may name further files and addresses.
        with (
            silent_pillow(),
            rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"),
            rasterio.open(path.absolute(), driver="GTiff") as file,
        ):
            meanings = [meaning.name for meaning in file.colorinterp]
            if meanings[0] in _NO_LIGHT:
                raise UserError(f"{path} holds {meanings[0]} values: save it with the bands themselves.")
            _check_size(path, file.width, file.height)
            wanted = [band for band, meaning in enumerate(meanings, 1) if alpha or meaning != "alpha"]
            bands = file.read(wanted)
    except rasterio.errors.RasterioError as error:
        raise unreadable(path, "it is damaged") from error
    return _checked_bytes(np.ascontiguousarray(bands.transpose(1, 2, 0)), path)


def to_bytes(values: np.ndarray) -> np.ndarray:
    """uint8 as it is; uint16 scaled from 0..65535 to 0..255, to the nearest."""
    if values.dtype == np.uint8:
        return values
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _is_rgb_and_one(path: Path) -> bool:
    # Red, green, blue and a band of no stated meaning, as near infrared is saved: OpenCV gives all four.
    try:
        with opened(path) as picture:
            assert isinstance(picture, TiffImagePlugin.TiffImageFile)
            extra = picture.tag_v2.get(TiffImagePlugin.EXTRASAMPLES)
            return picture.mode == "RGB" and extra == (0,)
    except Exception:  # whatever is wrong with it, the other way will say so
        return False


def _import_rasterio(path: Path) -> Any:
    try:
        import rasterio
    except ImportError as error:
        raise UserError(
            f"{path} is damaged, or a TIFF that needs rasterio: pip install 'segmentation[geo]'."
        ) from error
    return rasterio


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise UserError(
            f"{path} has {width}x{height} pixels, more than {MAX_PIXELS}: cut it into tiles,"
            " or give predict.py tile=1024."
        )


def _checked_bytes(values: np.ndarray, path: Path) -> np.ndarray:
    if values.dtype.kind != "u" or values.dtype.itemsize > 2:
        raise UserError(
            f"{path} holds {values.dtype.name} pixels, whose range is unknown: save it with 8 or 16 bits, unsigned."
        )
    return to_bytes(values)
