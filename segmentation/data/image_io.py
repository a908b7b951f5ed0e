"""Image files of any format and mode -> uint8 arrays.

Pillow opens every file and reads the header (format, size, mode) before any pixel is decoded. OpenCV then decodes the
usual photographs (JPEG, RGB) and the usual masks (PNG, 8-bit grey): it gives the same pixels in less time and can
decode JPEGs at a reduced size. Pillow decodes all others. Rasterio reads TIFFs with bands that Pillow cannot read,
and numpy reads .npy files.
"""

import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageFile, ImageOps, PngImagePlugin, TiffImagePlugin

from segmentation.data.pixel_range import PixelRange, to_bytes
from segmentation.errors import UserError

MAX_PIXELS = 2**30
"""The largest image that is opened: 32768 x 32768 pixels, 3 GiB when decoded. Aerial images have hundreds of
megapixels, and Pillow's own limit against decompression bombs is 179."""

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF")
"""The formats that are read, whatever a file is called: Pillow would give EPS to Ghostscript, which runs programs."""

MAX_BANDS = 256
"""The most bands of a TIFF that is read; models take up to 128."""

WIDE_MODES = frozenset({"I;16", "I;16B", "I;16L", "I"})
"""Pillow's modes for grey with more than 8 bits."""

Sized = tuple[np.ndarray, tuple[int, int]]
"""Pixels, and the full size (H, W) of the image after rotation by EXIF, because the pixels may be reduced."""

_EXIF_ORIENTATION = 0x0112
_JPEG_FORMATS = ("JPEG", "MPO")  # MPO is a JPEG with further pictures behind it
_JPEG_SCAN = b"\xff\xda"  # the header's last segment starts with it, then the pixels follow
_JPEG_END = b"\xff\xd9"
# A JPEG decoded at twice the wanted size or more and then resized differs by half a grey level from one decoded at
# full size; decoded at less than twice the wanted size it differs by 1.5.
_REDUCTION_MARGIN = 2
_REDUCED = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
# PNG chunks that change values or rotate the image: EXIF, also inside a text; a transparent value; frames.
_PNG_SPECIAL = (b"eXIf", b"tEXt", b"zTXt", b"iTXt", b"tRNS", b"acTL")
_PNG_BITS = 24  # where the header has the bits of a sample
_TIFF_PLANAR = 2  # the TIFF tag's value for bands that are stored one after the other
_TIFF_PLACE = (33922, 34264)  # GeoTIFF's tags that tie pixels to coordinates: tie points, or a transformation
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # TIFF and BigTIFF in both byte orders


class UnreadableError(UserError):
    """A file that Pillow cannot read, or not with all of its bands."""


def read_image(path: Path, channels: int = 3, pixel_range: PixelRange | None = None) -> np.ndarray:
    """The image as uint8 (H, W, `channels`), rotated by its EXIF orientation.

    For three channels, grey, palette and CMYK images are converted to RGB. For one, all images are converted to grey
    by their luminance (ITU-R 601). In both cases alpha is dropped, not blended. For any other number the file must
    have that many bands, whose order is kept: grey with alpha, RGBA, TIFF, and .npy arrays (H, W, bands). Pixels of
    more than 8 bits, signed or floating-point ones become 0..255 by `pixel_range`; without it 16 bits are scaled from
    0..65535, and the others are refused.

    Raises `UserError` for a file that is missing, damaged, not an image or larger than `MAX_PIXELS`, and for another
    number of bands.
    """
    return read_sized(path, channels, pixel_range=pixel_range)[0]


def read_sized(
    path: Path,
    channels: int = 3,
    min_size: tuple[int, int] | None = None,
    pixel_range: PixelRange | None = None,
) -> Sized:
    """The image as from `read_image`, and its full size (H, W) after rotation by EXIF.

    With `min_size` (H, W) a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, but at no less than twice `min_size`.
    """
    values_HWC, size = _read(path, channels, min_size)
    return fit_bands(to_bytes(values_HWC, pixel_range, str(path)), channels, str(path)), size


def read_values(path: Path, channels: int = 3) -> np.ndarray:
    """The pixels (H, W, bands) as `read_image` reads them, before they become 0..255 and `channels` bands.

    Raises `UserError` where `read_image` does because of the file.
    """
    return _read(path, channels, None)[0]


def is_wide(path: Path) -> bool:
    """Whether a file's pixels have more than 8 bits, a sign or a decimal point; only the header is read.

    False for a file that cannot be opened, which is reported when it is decoded.
    """
    try:
        if path.suffix.lower() == ".npy":
            return np.lib.format.open_memmap(path, mode="r").dtype != np.uint8
        if tags := _tiff_tags(path):
            unsigned = max(tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))) == 1
            return max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))) > 8 or not unsigned
        with opened(path) as picture:
            return picture.mode in WIDE_MODES or _has_wide_colours(picture)
    except Exception:
        return False


def _read(path: Path, channels: int, min_size: tuple[int, int] | None) -> Sized:
    if path.suffix.lower() == ".npy":
        return _with_size(read_array(path))
    alpha = channels not in (1, 3)
    try:
        with _opened_file(path) as picture:
            decoded = _decode_jpeg(picture, min_size) if channels == 3 else None
            if decoded is not None:
                return decoded
            if picture.format == "PNG" and _has_wide_colours(picture):
                return _with_size(_read_wide_png(picture, alpha=alpha))
            if _misses_bands(picture):
                raise unreadable(path, "Pillow cannot read all of its bands")
            _load(picture)
    except UnreadableError:
        if not is_tiff(path):
            raise
        return _with_size(read_tiff(path, alpha=alpha))
    return _with_size(picture_values(picture, channels, str(path)))


def _with_size(values_HWC: np.ndarray) -> Sized:
    return values_HWC, (values_HWC.shape[0], values_HWC.shape[1])


def open_picture(path: Path) -> Image.Image:
    """The decoded image in the mode of the file, rotated by its EXIF orientation, for masks.

    Grey samples of 2 or 4 bits are those of the file, which Pillow would stretch to 0..255; `info["bits"]` says how
    many bits they have: 1, 2, 4 or 8, for all other images 8.

    Raises `UserError` for a file larger than `MAX_PIXELS`, and its subclass `UnreadableError` for a file that is
    missing, empty, damaged or not an image.
    """
    with _opened_file(path) as picture:
        bits = grey_bits(picture)
        _load(picture)
    if 1 < bits < 8:
        picture = picture.point([value * (2**bits - 1) // 255 for value in range(256)])
    picture.info["bits"] = bits
    return picture


def read_orientation(path: Path) -> tuple[int, tuple[int, int]]:
    """The EXIF orientation of an image, 1 if it has none, and its size (H, W) in the file; only the header is read.

    1 and (0, 0) for a file that cannot be opened, which is reported when it is decoded.
    """
    try:
        with opened(path) as picture:
            # Pillow would decode a PNG to look for the flag behind the pixels.
            known = picture.format != "PNG" or "exif" in picture.info
            orientation = picture.getexif().get(_EXIF_ORIENTATION, 1) if known else 1
            return (orientation if orientation in range(1, 9) else 1), (picture.height, picture.width)
    except Exception:
        return 1, (0, 0)


def is_animated(path: Path) -> bool:
    """Whether an image file has several frames; False for a file that cannot be opened."""
    try:
        with opened(path) as picture:
            return bool(getattr(picture, "is_animated", False))
    except Exception:  # the file is damaged, which is reported when it is decoded
        return False


def grey_bits(picture: Image.Image) -> int:
    """Bits of a sample of a grey image that is opened but not decoded: 1, 2, 4 or 8; for all other images 8."""
    if picture.mode != "L":
        return 1 if picture.mode == "1" else 8
    assert isinstance(picture, ImageFile.ImageFile)
    arguments = picture.tile[0].args if picture.tile else ""
    raw = arguments if isinstance(arguments, str) else str((arguments or ("",))[0])
    return int(raw[2]) if raw.startswith(("L;2", "L;4")) else 8


def read_grey_png(path: Path) -> np.ndarray | None:
    """uint8 (H, W) of an undamaged grey PNG with 8 bits, the usual mask; None for all other files."""
    try:
        with opened(path) as picture:
            if (picture.format, picture.mode) != ("PNG", "L") or picture.width * picture.height > MAX_PIXELS:
                return None
            data = _bytes_of(picture)
            if data[_PNG_BITS] != 8 or any(kind in data for kind in _PNG_SPECIAL):
                return None
            picture.verify()  # the checksums, some of which OpenCV does not check
        return _imdecode(data, cv2.IMREAD_UNCHANGED)
    except Exception:  # the file is damaged: `open_picture` reports the cause
        return None


def picture_values(picture: Image.Image, channels: int, name: str) -> np.ndarray:
    """The pixels (H, W, bands) of a decoded and rotated image; messages refer to it as `name`.

    Grey of more than 8 bits is as in the file. Other images are uint8 and, for one and three `channels`, converted to
    grey and RGB.
    """
    if picture.mode in WIDE_MODES | {"F"}:
        return np.array(picture)[:, :, None]
    if channels not in (1, 3):
        return _bands(picture, name)
    if picture.mode == "P":
        picture = picture.convert(
            "RGBA"
        )  # a palette with transparent colours would warn on conversion to RGB
    try:
        picture = picture.convert("RGB")
    except ValueError as error:
        raise unreadable(name, f"its colours are {picture.mode}") from error
    return np.array(picture) if channels == 3 else np.array(picture.convert("L"))[:, :, None]


def fit_bands(values_HWC: np.ndarray, channels: int, name: str) -> np.ndarray:
    """Pixels uint8 (H, W, `channels`): converts grey to RGB and RGB to grey if needed.

    Raises `UserError`, which names the image as `name`, for any other difference in the number of bands.
    """
    found = values_HWC.shape[2]
    if found == channels:
        return values_HWC
    if (found, channels) == (1, 3):
        return np.repeat(values_HWC, 3, axis=2)
    if (found, channels) == (3, 1):
        return np.array(Image.fromarray(np.ascontiguousarray(values_HWC)).convert("L"))[:, :, None]
    if values_HWC.shape[0] == channels:
        raise UserError(f"{name} has the shape {values_HWC.shape}: give its axes as (height, width, bands).")
    raise UserError(
        f"{name} holds {found} bands, but the model takes {channels}: train with data.channels={found}, "
        f"or save the image with {channels}."
    )


def read_integers(picture: Image.Image, name: Path | str) -> np.ndarray:
    """The values of a grey or palette image of up to 16 bits: (H, W), uint16 for `WIDE_MODES`, else uint8.

    Raises `UserError` for values outside 0..65535, which 32-bit files may have.
    """
    values = np.array(picture)
    if values.dtype == np.int32:
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 65535:
            raise UserError(f"{name} holds values {low}..{high}: save it with 8 or 16 bits.")
    return values.astype(np.uint16 if picture.mode in WIDE_MODES else np.uint8, copy=False)


def present_values(values: np.ndarray) -> list[int]:
    """The distinct values of a uint8 or uint16 array, sorted."""
    if values.dtype == np.uint8:
        # Pillow counts bytes in place; numpy would sort them or first widen each to 8 bytes.
        return [value for value, count in enumerate(Image.fromarray(values).histogram()) if count]
    return [int(value) for value in np.unique(values)]


def is_tiff(path: Path) -> bool:
    """Whether a file is a TIFF, by its first bytes; False if there is no such file."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) in _TIFF_MAGIC


def is_georeferenced(path: Path) -> bool:
    """Whether a TIFF says where on Earth its pixels lie; False for a file that cannot be read."""
    return any(tag in _tiff_tags(path) for tag in _TIFF_PLACE)


def check_bands(path: Path) -> None:
    """Raises `UserError` for a TIFF with more bands than any model takes, before they are read: it may have 65,535."""
    bands = _tiff_tags(path).get(TiffImagePlugin.SAMPLESPERPIXEL, 1)
    if bands > MAX_BANDS:
        raise UserError(
            f"{path} holds {bands} bands, more than {MAX_BANDS}: save it with the bands that are needed."
        )


def _tiff_tags(path: Path) -> Mapping[int, Any]:
    """The tags of a TIFF's first image, also of one that Pillow cannot decode; none of a file that cannot be read."""
    try:
        with silent_pillow(), path.open("rb") as file:
            header = file.read(8)
            if header[:4] not in _TIFF_MAGIC:
                return {}
            header += file.read(8) if header[2:3] == b"+" or header[3:4] == b"+" else b""  # BigTIFF
            tags = TiffImagePlugin.ImageFileDirectory_v2(header)
            file.seek(tags.next)
            tags.load(file)
            return dict(tags)
    except Exception:  # decoding it will report the error
        return {}


def read_array(path: Path) -> np.ndarray:
    """The numbers in a .npy file, (H, W, bands) or (H, W), as (H, W, bands).

    Raises `UserError` for a file that is missing, damaged or of another shape, or holds no real numbers. Pickled
    objects, which could run code, are not loaded.
    """
    try:
        # Memory-mapped, so that a wrong header cannot claim more memory than the size of the file.
        values: np.ndarray = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # a damaged header raises many kinds of exceptions
        cause = getattr(error, "strerror", None) or "it is damaged or does not hold a plain array"
        raise unreadable(path, cause) from error
    if values.ndim == 2:
        values = values[:, :, None]
    if values.ndim != 3 or 0 in values.shape:
        raise UserError(f"{path} has the shape {values.shape}: save it as (height, width, bands).")
    if values.dtype.kind not in "uif":
        raise UserError(
            f"{path} holds {values.dtype.name} values: save it as whole or floating-point numbers."
        )
    _check_size(path, values.shape[1], values.shape[0])
    return np.array(values)


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
            return _rgb(values)
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
            _check_size(path, file.width, file.height)
            wanted = [band for band, meaning in enumerate(meanings, 1) if alpha or meaning != "alpha"]
            bands_CHW = file.read(wanted)
    except rasterio.errors.RasterioError as error:
        raise unreadable(path, "it is damaged") from error
    return np.ascontiguousarray(bands_CHW.transpose(1, 2, 0))


def unreadable(name: Path | str, cause: str) -> UnreadableError:
    """The error for a file that cannot be read."""
    return UnreadableError(f"{name} cannot be read: {cause}. Repair it, or remove it.")


class _Shared:
    """Shares a context manager that changes global state: the first thread enters it, and the last one leaves it.

    If each thread entered its own, the first to leave would undo the change for the others, and the last would
    restore the state that it found, which is the changed one.
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
    # Pillow warns about unusual metadata, which changes no pixel and which the user need not correct. It logs an error
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


@contextmanager
def _long_texts() -> Iterator[None]:
    # Editors write metadata of megabytes. Pillow's limit for all texts of a file, 64 MB, stays.
    limit = PngImagePlugin.MAX_TEXT_CHUNK
    PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY
    try:
        yield
    finally:
        PngImagePlugin.MAX_TEXT_CHUNK = limit


silent_pillow = _Shared(_silence)
"""A context in which Pillow neither warns nor logs."""

_without_limit = _Shared(_no_limit)
_with_long_texts = _Shared(_long_texts)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """`Image.open` without messages and without Pillow's size limit: check `MAX_PIXELS` before decoding.

    Pillow's limit is a global variable that belongs to the host program. So it is lifted only for an image that
    Pillow refuses, and only while this image is open.
    """
    with silent_pillow(), _with_long_texts(), ExitStack() as stack:
        try:
            picture = Image.open(path, formats=FORMATS)
        except Image.DecompressionBombError:
            stack.enter_context(_without_limit())
            picture = Image.open(path, formats=FORMATS)
        yield stack.enter_context(picture)


@contextmanager
def _opened_file(path: Path) -> Iterator[Image.Image]:
    """`opened`, with `UserError` for all errors of the file, also those of decoding inside the block."""
    try:
        with opened(path) as picture:
            _check_size(path, *picture.size)
            yield picture
    except UserError:
        raise
    except FileNotFoundError as error:
        raise unreadable(path, "there is no such file") from error
    except IsADirectoryError as error:
        raise UserError(f"{path} is a folder: give a picture.") from error
    except Image.UnidentifiedImageError as error:
        empty = path.stat().st_size == 0
        raise unreadable(
            path,
            "it is empty (0 bytes)"
            if empty
            else "it is damaged or not an image (PNG, JPEG, TIFF, BMP, WebP, GIF)",
        ) from error
    except Exception as error:  # decoders raise many kinds of exceptions; all mean that the file is damaged
        cause = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
        raise unreadable(path, cause) from error


def _load(picture: Image.Image) -> None:
    """Decodes the image and rotates it by its EXIF orientation, in place: most need no rotation, and so no copy.

    Raises `OSError` for a JPEG without its end mark: some versions of Pillow decode a file that lacks little.
    """
    if picture.format in _JPEG_FORMATS and _is_cut_short(_bytes_of(picture)):
        raise OSError("its end is missing")
    picture.load()
    ImageOps.exif_transpose(picture, in_place=True)


def _decode_jpeg(picture: Image.Image, min_size: tuple[int, int] | None) -> Sized | None:
    """The pixels of an RGB JPEG that is opened but not decoded; None for all other files.

    None also for a JPEG that does not end with the end mark: OpenCV would fill a missing part with grey.
    """
    if picture.format not in _JPEG_FORMATS or picture.mode != "RGB":
        return None
    data = _bytes_of(picture)
    orientation = picture.getexif().get(_EXIF_ORIENTATION, 1)
    if orientation not in range(1, 9) or not data.endswith(_JPEG_END):
        return None
    width, height = picture.size
    full = (width, height) if orientation > 4 else (height, width)
    factor = 1 if min_size is None else _reduction(full, min_size)
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
    """The whole file of an opened image, without opening it again or changing Pillow's position in it."""
    assert isinstance(picture, ImageFile.ImageFile) and picture.fp is not None
    position = picture.fp.tell()
    picture.fp.seek(0)
    data: bytes = picture.fp.read()
    picture.fp.seek(position)
    return data


def _imdecode(data: bytes, flags: int) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except (MemoryError, cv2.error):  # beyond OpenCV's limits
        return None


def _reduction(full: tuple[int, int], min_size: tuple[int, int]) -> int:
    scale = min(side // (_REDUCTION_MARGIN * wanted) for side, wanted in zip(full, min_size, strict=True))
    return next((factor for factor in (8, 4, 2) if factor <= scale), 1)


def _turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    if orientation > 4:
        pixels = pixels.transpose(1, 0, 2)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(pixels[::rows, ::columns])


def _misses_bands(picture: Image.Image) -> bool:
    """Whether Pillow would leave out bands, or half of the bits of coloured ones."""
    if not isinstance(picture, TiffImagePlugin.TiffImageFile):
        return False
    samples = picture.tag_v2.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)
    return bool(samples > len(picture.getbands()) or _has_wide_colours(picture))


def _has_wide_colours(picture: Image.Image) -> bool:
    """Whether an opened image has several bands of more than 8 bits, of which Pillow decodes the upper 8."""
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        tags = picture.tag_v2
        samples = tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)
        return bool(samples > 1 and max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))) > 8)
    # The raw mode of Pillow's PNG decoder: RGB;16B, RGBA;16B, LA;16B.
    tile = getattr(picture, "tile", None)
    raw = (tile[0].args if isinstance(tile[0].args, str) else tile[0].args[0]) if tile else ""
    return picture.format == "PNG" and picture.mode != "I;16" and str(raw).endswith(";16B")


def _read_wide_png(picture: Image.Image, *, alpha: bool) -> np.ndarray:
    """uint16 (H, W, bands) of an opened PNG with 16-bit colours; damage raises an exception of Pillow or OpenCV."""
    data, mode = _bytes_of(picture), picture.mode
    orientation = picture.getexif().get(_EXIF_ORIENTATION, 1) if "exif" in picture.info else 1
    picture.verify()  # the checksums, some of which OpenCV does not check
    values = _imdecode(data, cv2.IMREAD_UNCHANGED)
    if values is None:
        raise OSError("its pixels are damaged")
    values = _rgb(values)
    if mode == "LA":  # OpenCV repeats the grey
        values = values[:, :, [0, -1]]
    return _turn(values if alpha or mode == "RGB" else values[:, :, :-1], orientation)


def _opencv_bands(path: Path) -> int:
    """The number of bands of a TIFF that OpenCV reads as they are: RGB, also with near infrared; 0 for others."""
    try:
        with opened(path) as picture:
            assert isinstance(picture, TiffImagePlugin.TiffImageFile)
            tags = picture.tag_v2
            apart = tags.get(TiffImagePlugin.PLANAR_CONFIGURATION, 1) == _TIFF_PLANAR
            extra = tags.get(TiffImagePlugin.EXTRASAMPLES, ())
            return 3 + len(extra) if picture.mode == "RGB" and extra in ((), (0,)) and not apart else 0
    except Exception:  # reading it with rasterio will report the error
        return 0


def _rgb(values: np.ndarray) -> np.ndarray:
    """OpenCV's order of bands -> RGB, with a fourth one where there is one."""
    return cv2.cvtColor(values, cv2.COLOR_BGR2RGB if values.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)


def _import_rasterio(path: Path) -> Any:
    try:
        import rasterio
    except ImportError as error:
        raise UserError(
            f"{path} is damaged, or is a TIFF that needs rasterio: pip install 'segmentation[geo]'."
        ) from error
    return rasterio


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise UserError(
            f"{path} has {width}x{height} pixels, more than {MAX_PIXELS}: cut it into tiles,"
            " or give predict.py a TIFF and tile=1024."
        )


def _bands(picture: Image.Image, name: str) -> np.ndarray:
    """uint8 (H, W, bands), the values in the file; palette indices are replaced by their colours."""
    if picture.mode == "P":
        picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    elif picture.mode == "1":
        picture = picture.convert("L")
    if picture.mode not in ("L", "LA", "RGB", "RGBA"):
        # The four inks of CMYK, for example, are not four bands of light.
        raise UserError(f"{name} is {picture.mode}: save it as RGB or RGBA, or as TIFF with the bands.")
    return np.array(picture).reshape(picture.height, picture.width, -1)
