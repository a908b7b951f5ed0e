"""Picture files -> arrays of 8 bits, whatever mode they were saved in."""

import logging
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin

from segmentation.errors import UserError
from segmentation.files import read_if

# MERGED FROM data/opening: Picture files -> Pillow's pictures, as they were saved.
# MERGED FROM data/bands: Images that are more than a picture: any number of bands, from TIFF and from numpy's files
# MERGED FROM data/jpeg: The usual photograph, a JPEG of three components, decoded by OpenCV: as Pillow decodes it,
# MERGED FROM data/png: The usual mask, a PNG of 8-bit grey, decoded by OpenCV: as Pillow decodes it, in less time.

MAX_PIXELS = 2**30
"""The largest picture that is opened: 32768 x 32768, 3 GiB once decoded. Aerial images reach hundreds of
megapixels, which Pillow's own guard against decompression bombs (179) would refuse."""

WIDE_MODES = frozenset({"I;16", "I;16B", "I;16L", "I"})
"""Pillow's names for grey with more than 8 bits."""

_PLANES = 2  # TIFF's number for bands that lie one after the other


class UnreadableError(UserError):
    """A file that Pillow cannot make a picture of, or not of all of its bands."""


class _Shared:
    """A context that changes the process's state, entered by the first of several threads and left by the last.

    Were each to enter it for itself, one that leaves first would undo the change for the others, and the last would
    bring back what it found: the changed state.
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
    # Nothing that Pillow warns of (odd metadata) changes a pixel or is the user's to mend, and it logs an error for
    # files with many bands, which `bands.py` reads.
    log = logging.getLogger(TiffImagePlugin.__name__)
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        log.setLevel(level)


@contextmanager
def _no_limit() -> Iterator[None]:
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


silent_pillow = _Shared(_silence)
"""Pillow neither warns nor logs while it lasts."""

_without_limit = _Shared(_no_limit)


@contextmanager
def opened(source: Path | IO[bytes]) -> Iterator[Image.Image]:
    """`Image.open` without messages and without a limit of size: whoever decodes it must check `MAX_PIXELS` first.

    Pillow knows its limit only as a global of the process, which is the host program's, not ours. So it is set aside
    only for a picture that Pillow refuses, and only while this picture is open.
    """
    with silent_pillow(), ExitStack() as stack:
        try:
            picture = Image.open(source)
        except Image.DecompressionBombError:
            stack.enter_context(_without_limit())
            picture = Image.open(source)
        yield stack.enter_context(picture)


def open_picture(path: Path, *, every_band: bool = False) -> Image.Image:
    """The decoded picture in the mode it was saved in, turned as its EXIF orientation says.

    Pillow leaves out or mixes up the bands of some TIFFs; with `every_band` these are errors.
    Raises `UserError` for a file larger than `MAX_PIXELS` and `UnreadableError`, which is one too, for a file
    that is missing, empty, damaged or no picture.
    """
    try:
        with opened(path) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise UserError(
                    f"{path} has {width}x{height} pixels, more than {MAX_PIXELS}: cut it into tiles,"
                    " or give predict.py a TIFF and tile=1024."
                )
            if every_band and _misses_bands(picture):
                raise unreadable(path, "Pillow cannot read all of its bands")
            picture.load()
            # In place, lest every picture is copied for the few that must be turned.
            ImageOps.exif_transpose(picture, in_place=True)
            return picture
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


def read_integers(picture: Image.Image, name: Path | str) -> np.ndarray:
    """The values of a grey or palette picture of up to 16 bits: (H, W), uint16 for `WIDE_MODES`, else uint8.

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


def unreadable(name: Path | str, cause: str) -> UnreadableError:
    """For raising: why a file cannot be used."""
    return UnreadableError(f"{name} cannot be read: {cause}. Repair it, or remove it.")


def _misses_bands(picture: Image.Image) -> bool:
    """Whether Pillow would leave bands out, or mix them up, as it does with 16 bits in a plane for each band."""
    if not isinstance(picture, TiffImagePlugin.TiffImageFile):
        return False
    tags = picture.tag_v2
    samples = tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)
    bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))
    apart = tags.get(TiffImagePlugin.PLANAR_CONFIGURATION, 1) == _PLANES
    return bool(samples > len(picture.getbands()) or (samples > 1 and apart and max(bits) > 8))


_MAGIC_bands = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # TIFF and BigTIFF in both orders of bytes
_NO_LIGHT = frozenset({"palette", "cyan"})


def is_tiff(path: Path) -> bool:
    """By its first bytes; False for a file that is not there."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) in _MAGIC_bands


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


_MAGIC_jpeg = b"\xff\xd8\xff"
_END = b"\xff\xd9"
_FRAMES = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended and progressive: what all cameras write
_APPLICATION_1 = 0xE1  # EXIF and XMP, either of which may say how the picture is turned
_ORIENTATION = 0x0112
_SPARE = 2  # resized from twice its size a picture differs by half a grey level from one never reduced, else by 1.5
_REDUCED = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


Sized = tuple[np.ndarray, tuple[int, int]]


def read_jpeg(path: Path, least: tuple[int, int] | None = None) -> Sized | None:
    """uint8 (H, W, 3) RGB, turned as its EXIF orientation says, and the (H, W) that the file has, turned too.

    With `least` (H, W) the picture is reduced to 1/2, 1/4 or 1/8 as long as it stays twice that large.
    None for whatever is not usual, or damaged: Pillow takes more files, and says what is wrong with the others.
    """
    data = read_if(path, len(_MAGIC_jpeg), _MAGIC_jpeg.__eq__)
    return None if data is None else decode_jpeg(data, least)


def decode_jpeg(data: bytes, least: tuple[int, int] | None = None) -> Sized | None:
    """As `read`, from the file's bytes."""
    frame = _read_frame(data)
    if frame is None or not data.endswith(_END):
        return None
    height, width, tagged = frame
    orientation = _orientation(data) if tagged else 1
    if height * width > MAX_PIXELS or orientation not in range(1, 9):
        return None
    turned = orientation > 4
    full = (width, height) if turned else (height, width)
    factor = 1 if least is None else _factor(full, least)
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _REDUCED[factor] | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        return None
    if factor > 1:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)
    return _turn(pixels, orientation), full


def _factor(full: tuple[int, int], least: tuple[int, int]) -> int:
    return next(
        factor
        for factor in (8, 4, 2, 1)
        if factor == 1
        or all(side >= factor * _SPARE * wanted for side, wanted in zip(full, least, strict=True))
    )


def _read_frame(data: bytes) -> tuple[int, int, bool] | None:
    """Height, width, and whether there is metadata that may turn the picture; None if it is not usual."""
    place, tagged = 2, False
    while place + 9 < len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker in _FRAMES:
            bits, components = data[place + 4], data[place + 9]
            height, width = (int.from_bytes(data[place + at : place + at + 2]) for at in (5, 7))
            return (height, width, tagged) if (bits, components) == (8, 3) and height else None
        tagged |= marker == _APPLICATION_1
        place += 2 + int.from_bytes(data[place + 2 : place + 4])
    return None


def _orientation(data: bytes) -> int:
    """1 to 8 as EXIF counts them, by Pillow's rules; 0 where they fail."""
    try:
        with opened(BytesIO(data)) as picture:
            return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged in one of many ways
        return 0


def _turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    if orientation > 4:
        pixels = pixels.transpose(1, 0, 2)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(pixels[::rows, ::columns])


_HEAD = 29  # bytes that tell whether a file is usual
_MAGIC = b"\x89PNG\r\n\x1a\n"
_GREY = b"\x08\x00\x00\x00\x00"  # bits, colour type, compression, filter, interlace
_SIDE, _AREA = 1_000_000, 2**30  # the limits of libpng and OpenCV
_PLAIN = frozenset({b"IHDR", b"IDAT", b"IEND", b"pHYs", b"gAMA", b"sRGB"})
"""Chunks that change no value. Others may turn the picture, as EXIF in a text does."""


def read_grey_png(path: Path) -> np.ndarray | None:
    """uint8 (H, W) of a usual file; None for others, and damaged ones: Pillow says what is wrong with them."""
    data = read_if(path, _HEAD, _is_usual)
    try:
        return None if data is None else decode_grey_png(data)
    except (MemoryError, cv2.error):
        return None


def decode_grey_png(data: bytes) -> np.ndarray | None:
    """As `read`, from the file's bytes. Raises `cv2.error` and `MemoryError` where OpenCV does."""
    if not _is_usual(data[:_HEAD]):
        return None
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    if not 0 < width * height <= _AREA or max(width, height) > _SIDE or not _is_plain(data):
        return None
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def _is_usual(start: bytes) -> bool:
    return start[:8] == _MAGIC and start[24:29] == _GREY


def _is_plain(data: bytes) -> bool:
    """Whether the file consists of undamaged chunks that change no value."""
    place, kind = len(_MAGIC), b""
    while place + 12 <= len(data) and kind != b"IEND":
        end = place + 8 + int.from_bytes(data[place : place + 4])
        kind = data[place + 4 : place + 8]
        if kind not in _PLAIN or zlib.crc32(data[place + 4 : end]) != int.from_bytes(data[end : end + 4]):
            return False
        place = end + 4
    return kind == b"IEND" and place == len(data)


def read_image(path: Path, channels: int = 3) -> np.ndarray:
    """The picture as uint8 (H, W, `channels`), turned as its EXIF orientation says.

    For three channels grey, palette and CMYK pictures become RGB; for one, all become grey by their luminance
    (ITU-R 601); alpha is dropped in both, not blended. Any other number is taken from files that hold so many
    bands, in their order: grey with alpha, RGBA, TIFF and arrays in .npy, (H, W, bands). 16 bits are scaled
    from 0..65535 to 0..255.

    Raises `UserError` for a file that `open_picture`, `read_tiff` or `read_array` refuses, with another number
    of bands, with floating-point pixels or with integers beyond 16 bits.
    """
    return read_sized(path, channels)[0]


def read_sized(
    path: Path, channels: int = 3, least: tuple[int, int] | None = None
) -> tuple[np.ndarray, tuple[int, int]]:
    """`read_image`, and the (H, W) that the file has, turned.

    With `least` (H, W) a photograph may come reduced, but no smaller than twice that.
    """
    found = read_jpeg(path, least) if channels == 3 else None
    if found is None:
        image = _read_any(path, channels)
        found = image, (image.shape[0], image.shape[1])
    return found


def _read_any(path: Path, channels: int) -> np.ndarray:
    if path.suffix.lower() == ".npy":
        return fit_bands(read_array(path), channels, str(path))
    try:
        picture = open_picture(path, every_band=True)
    except UnreadableError:
        if not is_tiff(path):
            raise
        return fit_bands(read_tiff(path, alpha=channels not in (1, 3)), channels, str(path))
    return read_picture(picture, channels, str(path))


def read_picture(picture: Image.Image, channels: int, name: str) -> np.ndarray:
    """A decoded picture, turned already, by the rules of `read_image`; `name` is what messages call it."""
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
