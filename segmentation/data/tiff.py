"""TIFF: its tags, and bands that Pillow cannot read, by OpenCV or rasterio."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin

from segmentation.data.opening import check_size, opened, silent_pillow, unreadable
from segmentation.errors import UserError

MAX_BANDS = 256
"""The most bands of a TIFF that is read; models take up to 128."""
_PLANAR = 2  # the TIFF tag's value for bands that are stored one after the other
_PLACE = (33922, 34264)  # GeoTIFF's tags that tie pixels to coordinates: tie points, or a transformation
_NO_DATA = 42113  # GDAL's tag: the value, as text, of pixels without data
_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # TIFF and BigTIFF in both byte orders


def is_tiff(path: Path) -> bool:
    """Whether a file is a TIFF, by its first bytes; False if there is no such file."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) in _MAGIC


def is_georeferenced(path: Path) -> bool:
    """Whether a TIFF says where on Earth its pixels lie; False for a file that cannot be read."""
    return not tiff_tags(path).keys().isdisjoint(_PLACE)


def check_bands(path: Path) -> None:
    """Raises `UserError` for a TIFF with more bands than any model takes, before they are read: it may have 65,535."""
    bands = _whole_number(tiff_tags(path), TiffImagePlugin.SAMPLESPERPIXEL, 1)
    if bands > MAX_BANDS:
        raise UserError(
            f"{path} holds {bands} bands, more than {MAX_BANDS}: save it with the bands that are needed."
        )


def tiff_tags(path: Path) -> Mapping[int, Any]:
    """The tags of a TIFF's first image, also of one that Pillow cannot decode; none of a file that cannot be read."""
    try:
        with silent_pillow(), path.open("rb") as file:
            header = file.read(8)
            if header[:4] not in _MAGIC:
                return {}
            header += file.read(8) if header[2:3] == b"+" or header[3:4] == b"+" else b""  # BigTIFF
            tags = TiffImagePlugin.ImageFileDirectory_v2(header)
            file.seek(tags.next)
            tags.load(file)
            return dict(tags)
    except Exception:  # decoding it will report the error
        return {}


def tiff_size(path: Path) -> tuple[int, int]:
    """The size (H, W) by the tags of a TIFF; (0, 0) of a file that cannot be read."""
    tags = tiff_tags(path)
    return _whole_number(tags, TiffImagePlugin.IMAGELENGTH), _whole_number(tags, TiffImagePlugin.IMAGEWIDTH)


def _whole_number(tags: Mapping[int, Any], tag: int, default: int = 0) -> int:
    """A tag's value; in a damaged file it may be text, a fraction or several values."""
    value = tags.get(tag, default)
    return value if isinstance(value, int) else default


def has_wide_values(tags: Mapping[int, Any]) -> bool:
    """Whether the values have more than 8 bits, a sign or a decimal point, by the tags of a TIFF."""
    bits = max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
    return bits > 8 or max(tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))) > 1


def no_data(path: Path) -> float | None:
    """The value that pixels without data have in a TIFF; None where it does not say."""
    try:
        return float(str(tiff_tags(path).get(_NO_DATA, "")).strip("\0 "))
    except ValueError:
        return None


def read_tiff(path: Path, *, alpha: bool) -> np.ndarray:
    """The bands of a TIFF that Pillow cannot read, in the order of the file, (H, W, bands) with its own type.

    Without `alpha`, bands marked as alpha are left out. OpenCV reads RGB, also with one more band; other TIFFs need
    rasterio (the extra `geo`).
    Raises `UserError` if rasterio is missing, for a damaged file, and for palette or CMYK values.
    """
    check_bands(path)
    if bands := _opencv_bands(path):
        values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if values is not None and values.shape[2:] == (bands,):
            return to_rgb(values)
    rasterio = _import_rasterio(path)
    try:
        # Only TIFF, and no other files in its folder: other formats may refer to further files and addresses.
        with (
            silent_pillow(),
            rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"),
            rasterio.open(path.absolute(), driver="GTiff") as file,
        ):
            meanings = [meaning.name for meaning in file.colorinterp]
            if meanings[0] in ("palette", "cyan"):
                raise UserError(f"{path} holds {meanings[0]} values: save it with the bands themselves.")
            check_size(path, file.width, file.height)
            wanted = [band for band, meaning in enumerate(meanings, 1) if alpha or meaning != "alpha"]
            bands_CHW = file.read(wanted)
    # Where rasterio lets them through, GDAL's own errors.
    except (rasterio.errors.RasterioError, rasterio._err.CPLE_BaseError) as error:
        raise unreadable(path, "it is damaged") from error
    return np.ascontiguousarray(bands_CHW.transpose(1, 2, 0))


def misses_bands(picture: Image.Image) -> bool:
    """Whether Pillow would leave out bands, or half of the bits of coloured ones."""
    if not isinstance(picture, TiffImagePlugin.TiffImageFile):
        return False
    samples = picture.tag_v2.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)
    return bool(samples > len(picture.getbands()) or (samples > 1 and has_wide_values(picture.tag_v2)))


def _opencv_bands(path: Path) -> int:
    """The number of bands of a TIFF that OpenCV reads as they are: RGB, also with near infrared; 0 for others."""
    try:
        with opened(path) as picture:
            assert isinstance(picture, TiffImagePlugin.TiffImageFile)
            tags = picture.tag_v2
            apart = tags.get(TiffImagePlugin.PLANAR_CONFIGURATION, 1) == _PLANAR
            extra = tags.get(TiffImagePlugin.EXTRASAMPLES, ())
            return 3 + len(extra) if picture.mode == "RGB" and extra in ((), (0,)) and not apart else 0
    except Exception:  # reading it with rasterio will report the error
        return 0


def to_rgb(values: np.ndarray) -> np.ndarray:
    """OpenCV's order of bands -> RGB, with a fourth one where there is one."""
    return cv2.cvtColor(values, cv2.COLOR_BGR2RGB if values.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)


def _import_rasterio(path: Path) -> Any:
    try:
        import rasterio
    except ImportError as error:
        raise UserError(
            f"{path} is damaged, or is a TIFF that needs rasterio: pip install '.[geo]'."
        ) from error
    return rasterio
