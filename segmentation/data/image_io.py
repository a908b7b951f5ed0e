"""Image files -> uint8 arrays, whatever mode they were saved in.

Pillow opens every file: it reads the header, which gives format, size and mode, before any pixel is decoded. Usual
photographs (JPEG, RGB) and usual masks (PNG, 8-bit grey) are then decoded by OpenCV, which gives the same pixels in
less time and can decode JPEGs at a reduced size. Pillow decodes everything else. TIFFs with bands that Pillow cannot
read are left to rasterio, and .npy files to numpy.
"""

import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageFile, ImageOps, TiffImagePlugin

from segmentation.errors import UserError

MAX_PIXELS = 2**30
"""The largest image that is opened: 32768 x 32768, 3 GiB once decoded. Aerial images reach hundreds of
megapixels, which Pillow's own guard against decompression bombs (179) would refuse."""

WIDE_MODES = frozenset({"I;16", "I;16B", "I;16L", "I"})
"""Pillow's names for grey with more than 8 bits."""

Sized = tuple[np.ndarray, tuple[int, int]]
"""Pixels, and the (H, W) that the file has once turned: the pixels may be reduced."""

_EXIF_ORIENTATION = 0x0112
_JPEG_FORMATS = ("JPEG", "MPO")  # MPO is a JPEG with further pictures behind it
_JPEG_SCAN = b"\xff\xda"  # the header's last segment starts with it, then the pixels follow
_JPEG_END = b"\xff\xd9"
# A JPEG that is resized from twice the wanted size differs from one never reduced by half a grey level, else by 1.5.
_REDUCTION_MARGIN = 2
_REDUCED = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
# PNG chunks that change values or turn the image: EXIF, also within a text; a transparent value; frames.
_PNG_SPECIAL = (b"eXIf", b"tEXt", b"zTXt", b"iTXt", b"tRNS", b"acTL")
_TIFF_PLANAR = 2  # TIFF's number for bands that are stored one after the other
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # TIFF and BigTIFF in both byte orders


class UnreadableError(UserError):
    """A file that Pillow cannot read, or not with all of its bands."""


def read_image(path: Path, channels: int = 3) -> np.ndarray:
    """The image as uint8 (H, W, `channels`), turned as its EXIF orientation says.

    For three channels grey, palette and CMYK images become RGB; for one, all become grey by their luminance
    (ITU-R 601); alpha is dropped in both, not blended. Any other number is taken from files that hold so many
    bands, in their order: grey with alpha, RGBA, TIFF and arrays in .npy, (H, W, bands). 16 bits are scaled
    from 0..65535 to 0..255.

    Raises `UserError` for a file that is missing, damaged, no image or larger than `MAX_PIXELS`, with another
    number of bands, with floating-point pixels or with integers beyond 16 bits.
    """
    return read_sized(path, channels)[0]


def read_sized(path: Path, channels: int = 3, least: tuple[int, int] | None = None) -> Sized:
    """`read_image`, and the (H, W) that the file has, turned.

    With `least` (H, W) a JPEG may come reduced to 1/2, 1/4 or 1/8, but no smaller than twice `least`.
    """
    image = _read_pixels(path, channels, least)
    return image if isinstance(image, tuple) else (image, (image.shape[0], image.shape[1]))


def _read_pixels(path: Path, channels: int, least: tuple[int, int] | None) -> np.ndarray | Sized:
    if path.suffix.lower() == ".npy":
        return fit_bands(read_array(path), channels, str(path))
    try:
        with _opened_file(path) as picture:
            decoded = _decode_jpeg(picture, least) if channels == 3 else None
            if decoded is not None:
                return decoded
            if _misses_bands(picture):
                raise unreadable(path, "Pillow cannot read all of its bands")
            _load(picture)
    except UnreadableError:
        if not is_tiff(path):
            raise
        return fit_bands(read_tiff(path, alpha=channels not in (1, 3)), channels, str(path))
    return read_picture(picture, channels, str(path))


def open_picture(path: Path) -> Image.Image:
    """The decoded image in the mode it was saved in, turned as its EXIF orientation says.

    Raises `UserError` for a file larger than `MAX_PIXELS` and `UnreadableError`, which is one too, for a file
    that is missing, empty, damaged or no image.
    """
    with _opened_file(path) as picture:
        _load(picture)
        return picture


def read_grey_png(path: Path) -> np.ndarray | None:
    """uint8 (H, W) of an undamaged PNG of grey with at most 8 bits, the usual mask; None for all other files."""
    try:
        with opened(path) as picture:
            if (picture.format, picture.mode) != ("PNG", "L") or picture.width * picture.height > MAX_PIXELS:
                return None
            data = _bytes_of(picture)
            if any(kind in data for kind in _PNG_SPECIAL):
                return None
            picture.verify()  # the checksums, some of which OpenCV passes over
        return _imdecode(data, cv2.IMREAD_UNCHANGED)
    except Exception:  # damaged in one of many ways: `open_picture` says in which
        return None


def read_picture(picture: Image.Image, channels: int, name: str) -> np.ndarray:
    """A decoded image, turned already, by the rules of `read_image`; `name` is what messages call it."""
    if picture.mode == "F":
        raise UserError(
            f"{name} holds floating-point pixels, whose range is unknown: save it with 8 or 16 bits."
        )
    if picture.mode in WIDE_MODES:
        # Pillow's own conversion clips everything above 255.
        return fit_bands(to_bytes(read_integers(picture, name))[:, :, None], channels, name)
    if channels not in (1, 3):
        return fit_bands(_bands(picture, name), channels, name)
    if picture.mode == "P":
        picture = picture.convert("RGBA")  # straight to RGB warns where the palette has transparent colours
    try:
        picture = picture.convert("RGB")
    except ValueError as error:
        raise unreadable(name, f"its colours are {picture.mode}") from error
    return np.array(picture) if channels == 3 else np.array(picture.convert("L"))[:, :, None]


def fit_bands(values_HWC: np.ndarray, channels: int, name: str) -> np.ndarray:
    """Pixels uint8 (H, W, `channels`): grey for colour and colour for grey.

    Raises `UserError`, calling it by `name`, for any other difference in the number of bands.
    """
    found = values_HWC.shape[2]
    if found == channels:
        return values_HWC
    if (found, channels) == (1, 3):
        return np.repeat(values_HWC, 3, axis=2)
    if (found, channels) == (3, 1):
        return np.array(Image.fromarray(np.ascontiguousarray(values_HWC)).convert("L"))[:, :, None]
    raise UserError(
        f"{name} holds {found} bands, but the model takes {channels}: train with data.channels={found}, "
        f"or save it with {channels}."
    )


def read_integers(picture: Image.Image, name: Path | str) -> np.ndarray:
    """The values of a grey or palette image of up to 16 bits: (H, W), uint16 for `WIDE_MODES`, else uint8.

    Raises `UserError` for values outside 0..65535, which 32-bit files may hold.
    """
    values = np.array(picture)
    if values.dtype == np.int32:
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 65535:
            raise UserError(f"{name} holds values {low}..{high}: save it with 8 or 16 bits.")
    return values.astype(np.uint16 if picture.mode in WIDE_MODES else np.uint8, copy=False)


def present_values(values: np.ndarray) -> list[int]:
    """The different values in a uint8 or uint16 array, sorted."""
    if values.dtype == np.uint8:
        # Pillow counts bytes in place; numpy would first sort them or widen each to eight.
        return [value for value, count in enumerate(Image.fromarray(values).histogram()) if count]
    return [int(value) for value in np.unique(values)]


def to_bytes(values: np.ndarray) -> np.ndarray:
    """uint8 as it is; uint16 scaled from 0..65535 to 0..255, to the nearest."""
    if values.dtype == np.uint8:
        return values
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def is_tiff(path: Path) -> bool:
    """By its first bytes; False for a file that is not there."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) in _TIFF_MAGIC


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
            if meanings[0] in ("palette", "cyan"):
                raise UserError(f"{path} holds {meanings[0]} values: save it with the bands themselves.")
            _check_size(path, file.width, file.height)
            wanted = [band for band, meaning in enumerate(meanings, 1) if alpha or meaning != "alpha"]
            bands = file.read(wanted)
    except rasterio.errors.RasterioError as error:
        raise unreadable(path, "it is damaged") from error
    return _checked_bytes(np.ascontiguousarray(bands.transpose(1, 2, 0)), path)


def unreadable(name: Path | str, cause: str) -> UnreadableError:
    """For raising: why a file cannot be used."""
    return UnreadableError(f"{name} cannot be read: {cause}. Repair it, or remove it.")


class _Shared:
    """A context that changes the state of the process: the first of several threads enters it, the last leaves it.

    If each thread entered it by itself, the first to leave would undo the change for the others, and the last would
    restore what it found: the changed state.
    """

    def __init__(self, make: Callable[[], AbstractContextManager[object]]) -> None:
        self._make, self._lock, self._inside, self._entered = make, threading.Lock(), 0, ExitStack()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._inside == 0:
                self._entered.enter_context(self._make())
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    self._entered.close()


@contextmanager
def _silence() -> Iterator[None]:
    # Pillow's warnings are of odd metadata, which changes no pixel and is not the user's to mend. It logs an error
    # for files with many bands, which `read_tiff` reads.
    log = logging.getLogger(TiffImagePlugin.__name__)
    before, log.disabled = log.disabled, True  # setting its level would clear the caches of all loggers
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        log.disabled = before


@contextmanager
def _no_limit() -> Iterator[None]:
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


silent_pillow = _Shared(_silence)
"""Within it Pillow neither warns nor logs."""

_without_limit = _Shared(_no_limit)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """`Image.open` without messages and without a size limit: check `MAX_PIXELS` before decoding.

    Pillow's limit is a global of the process and belongs to the host program. So it is set aside only for an image
    that Pillow refuses, and only while this image is open.
    """
    with silent_pillow(), ExitStack() as stack:
        try:
            picture = Image.open(path)
        except Image.DecompressionBombError:
            stack.enter_context(_without_limit())
            picture = Image.open(path)
        yield stack.enter_context(picture)


@contextmanager
def _opened_file(path: Path) -> Iterator[Image.Image]:
    """`opened`, with `UserError` for whatever is wrong with the file, also while it is decoded in the block."""
    try:
        with opened(path) as picture:
            _check_size(path, *picture.size)
            yield picture
    except UserError:
        raise
    except FileNotFoundError as error:
        raise unreadable(path, "there is no such file") from error
    except Image.UnidentifiedImageError as error:
        empty = path.stat().st_size == 0
        raise unreadable(path, "it is empty (0 bytes)" if empty else "it is damaged or no picture") from error
    except Exception as error:  # decoders raise many kinds; all mean that this file is damaged
        cause = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
        raise unreadable(path, cause) from error


def _load(picture: Image.Image) -> None:
    """Decodes and turns it, in place: most images need no turn, and so no copy.

    Raises `OSError` for a JPEG without its end mark: some versions of Pillow decode a file that lacks little.
    """
    if picture.format in _JPEG_FORMATS and _is_cut_short(_bytes_of(picture)):
        raise OSError("its end is missing")
    picture.load()
    ImageOps.exif_transpose(picture, in_place=True)


def _decode_jpeg(picture: Image.Image, least: tuple[int, int] | None) -> Sized | None:
    """The pixels of an RGB JPEG, which `picture` has opened but not decoded; None for all other files.

    None also for a JPEG without end mark: OpenCV would fill what is missing with grey, where Pillow raises.
    """
    if picture.format not in _JPEG_FORMATS or picture.mode != "RGB":
        return None
    data = _bytes_of(picture)
    orientation = picture.getexif().get(_EXIF_ORIENTATION, 1)
    if orientation not in range(1, 9) or not data.endswith(_JPEG_END):
        return None
    width, height = picture.size
    full = (width, height) if orientation > 4 else (height, width)
    factor = 1 if least is None else _reduction(full, least)
    pixels = _imdecode(data, _REDUCED[factor] | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        return None
    if factor > 1:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)
    return _turn(pixels, orientation), full


def _is_cut_short(jpeg: bytes) -> bool:
    """Whether the end mark of the (first) image in a JPEG file is missing.

    The search starts behind the header, because a thumbnail in the header has an end mark of its own.
    """
    position = 2
    while (marker := jpeg[position : position + 2]) not in (b"", _JPEG_SCAN):
        filler = marker == b"\xff\xff"  # markers may be preceded by any number of bytes FF
        position += 1 if filler else 2 + int.from_bytes(jpeg[position + 2 : position + 4])
    return _JPEG_END not in jpeg[position:]


def _bytes_of(picture: Image.Image) -> bytes:
    """The whole file of an opened image, without opening it again; Pillow goes on where it was."""
    assert isinstance(picture, ImageFile.ImageFile) and picture.fp is not None
    place = picture.fp.tell()
    picture.fp.seek(0)
    data: bytes = picture.fp.read()
    picture.fp.seek(place)
    return data


def _imdecode(data: bytes, flags: int) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except (MemoryError, cv2.error):  # beyond OpenCV's limits
        return None


def _reduction(full: tuple[int, int], least: tuple[int, int]) -> int:
    scale = min(side // (_REDUCTION_MARGIN * wanted) for side, wanted in zip(full, least, strict=True))
    return next((factor for factor in (8, 4, 2) if factor <= scale), 1)


def _turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    if orientation > 4:
        pixels = pixels.transpose(1, 0, 2)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(pixels[::rows, ::columns])


def _misses_bands(picture: Image.Image) -> bool:
    """Whether Pillow would leave bands out, or mix them up, as it does with 16 bits in a plane for each band."""
    if not isinstance(picture, TiffImagePlugin.TiffImageFile):
        return False
    tags = picture.tag_v2
    samples = tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)
    bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))
    apart = tags.get(TiffImagePlugin.PLANAR_CONFIGURATION, 1) == _TIFF_PLANAR
    return bool(samples > len(picture.getbands()) or (samples > 1 and apart and max(bits) > 8))


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
            " or give predict.py a TIFF and tile=1024."
        )


def _checked_bytes(values: np.ndarray, path: Path) -> np.ndarray:
    if values.dtype.kind != "u" or values.dtype.itemsize > 2:
        raise UserError(
            f"{path} holds {values.dtype.name} pixels, whose range is unknown: save it with 8 or 16 bits, unsigned."
        )
    return to_bytes(values)


def _bands(picture: Image.Image, name: str) -> np.ndarray:
    """uint8 (H, W, bands) as the file holds them; a palette counts as the colours that it stands for."""
    if picture.mode == "P":
        picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    elif picture.mode == "1":
        picture = picture.convert("L")
    if picture.mode not in ("L", "LA", "RGB", "RGBA"):
        # Four inks are not four bands of light.
        raise UserError(f"{name} is {picture.mode}: save it as RGB or RGBA, or as TIFF with the bands.")
    return np.array(picture).reshape(picture.height, picture.width, -1)
