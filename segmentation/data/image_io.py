"""Image files of any format and mode -> uint8 arrays.

Pillow opens every file and reads the header (format, size, mode) before any pixel is decoded. OpenCV then decodes the
usual photographs (JPEG, RGB) and the usual masks (PNG, 8-bit grey): it gives the same pixels in less time and can
decode JPEGs at a reduced size. Pillow decodes all others. Rasterio reads TIFFs with bands that Pillow cannot read,
and numpy reads .npy files.
"""

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageFile

from segmentation.data.opening import (
    JPEG_END,
    JPEG_FORMATS,
    MAX_PIXELS,
    UnreadableError,
    bytes_of,
    check_size,
    load,
    opened,
    opened_file,
    unreadable,
)
from segmentation.data.pixel_range import PixelRange, to_bytes
from segmentation.data.tiff import (
    has_wide_values,
    is_tiff,
    misses_bands,
    read_tiff,
    tiff_size,
    tiff_tags,
    to_rgb,
)
from segmentation.errors import UserError
from segmentation.reading import read_bytes

WIDE_MODES = frozenset({"I;16", "I;16B", "I;16L", "I"})
"""Pillow's modes for grey with more than 8 bits."""

Sized = tuple[np.ndarray, tuple[int, int]]
"""Pixels, and the full size (H, W) of the image after rotation by EXIF, because the pixels may be reduced."""

_EXIF_ORIENTATION = 0x0112
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
_MAT_BYTES = 2**20  # SBD's have a hundredth; packed, they may hold a thousand times as much
_PNG_BITS = 24  # where the header has the bits of a sample


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
        if tags := tiff_tags(path):
            return has_wide_values(tags)
        with opened(path) as picture:
            return picture.mode in WIDE_MODES or _is_wide_png(picture)
    except Exception:
        return False


def _read(path: Path, channels: int, min_size: tuple[int, int] | None) -> Sized:
    if path.suffix.lower() == ".npy":
        return _with_size(read_array(path))
    alpha = channels not in (1, 3)
    try:
        with opened_file(path) as picture:
            decoded = _decode_jpeg(picture, min_size) if channels == 3 else None
            if decoded is not None:
                return decoded
            if _is_wide_png(picture):
                return _with_size(_read_wide_png(picture, alpha=alpha))
            if misses_bands(picture):
                raise unreadable(path, "Pillow cannot read all of its bands")
            load(picture)
    except UnreadableError:
        if not is_tiff(path):
            raise
        return _with_size(read_tiff(path, alpha=alpha))
    return _with_size(picture_values(picture, channels, str(path)))


def _with_size(values_HWC: np.ndarray) -> Sized:
    return values_HWC, (values_HWC.shape[0], values_HWC.shape[1])


def open_picture(path: Path) -> Image.Image:
    """The decoded image in the mode of the file, rotated by its EXIF orientation, for masks.

    Whole numbers in .npy files, in SBD's .mat files and of 32-bit floats are grey of 8 or 16 bits.

    Grey samples of 2 or 4 bits are those of the file, which Pillow would stretch to 0..255; `info["bits"]` says how
    many bits they have: 1, 2, 4 or 8, for all other images 8.

    Raises `UserError` for a file larger than `MAX_PIXELS` and for numbers that are not whole, and its subclass
    `UnreadableError` for a file that is missing, empty, damaged or not an image.
    """
    if path.suffix.lower() in (".npy", ".mat"):
        values = read_array(path, "buif") if path.suffix.lower() == ".npy" else _read_mat(path)
        return _as_picture(values, path)
    with opened_file(path) as picture:
        bits = grey_bits(picture)
        load(picture)
    if picture.mode == "F":
        return _as_picture(np.array(picture)[:, :, None], path)
    if 1 < bits < 8:
        picture = picture.point([value * (2**bits - 1) // 255 for value in range(256)])
    picture.info["bits"] = bits
    return picture


def _as_picture(values_HWC: np.ndarray, path: Path) -> Image.Image:
    """Labels as a grey picture of 8 or 16 bits; -1 becomes 255, because labelme ignores it."""
    if values_HWC.shape[0] == 1 and values_HWC.shape[2] > 1:  # saved with its band first
        values_HWC = values_HWC.transpose(1, 2, 0)
    if values_HWC.shape[2] != 1:
        raise UserError(
            f"{path} has {values_HWC.shape[2]} bands: save a mask as (height, width).", kind="mask-colours"
        )
    values = values_HWC[:, :, 0]
    if values.dtype.kind == "f":
        with np.errstate(invalid="ignore"):  # of numbers that are none
            parts = values[~(np.isfinite(values) & (values == np.rint(values)))]
        if len(parts):
            raise UserError(
                f"{path} holds {parts[0]:.6g}, which is no label: save whole numbers.", kind="mask-values"
            )
    low, high = values.min(), values.max()
    if low < -1 or high > (65535 if low >= 0 else 255):
        raise UserError(
            f"{path} holds values {low:.0f}..{high:.0f}: save labels of 0..65535.", kind="label-range"
        )
    if high > 255:
        picture = Image.fromarray(values.astype(np.uint16))
    else:
        picture = Image.fromarray(np.where(values < 0, 255, values).astype(np.uint8))
    picture.info["bits"] = 8
    return picture


def _read_mat(path: Path) -> np.ndarray:
    """uint8 (H, W, 1): the class of each pixel in a file of SBD's cls/."""
    from scipy.io import loadmat  # takes a tenth of a second, and few need it

    try:
        values = loadmat(BytesIO(read_bytes(path, _MAT_BYTES)))["GTcls"]["Segmentation"].item()
        return np.asarray(values, np.uint8)[:, :, None]
    except UserError:
        raise
    except Exception as error:  # of damaged files, of any kind
        raise unreadable(path, "it holds no GTcls.Segmentation of SBD") from error


def read_orientation(path: Path) -> tuple[int, tuple[int, int]]:
    """The EXIF orientation of an image, 1 if it has none, and its size (H, W) in the file; only the header is read.

    1 and (0, 0) for a file that cannot be opened, which is reported when it is decoded.
    """
    try:
        with opened(path) as picture:
            return _orientation(picture), (picture.height, picture.width)
    except Exception:
        return 1, (0, 0)


def _orientation(picture: Image.Image) -> int:
    # That of PNG files would decode them to look for the flag behind the pixels.
    orientation = Image.Image.getexif(picture).get(_EXIF_ORIENTATION, 1)
    return orientation if orientation in range(1, 9) else 1


def read_size(path: Path) -> tuple[int, int]:
    """The size (H, W) of an image after rotation by EXIF; only the header is read.

    (0, 0) for a file that cannot be opened, which is reported when it is decoded.
    """
    if path.suffix.lower() == ".npy":
        try:
            height, width = np.lib.format.open_memmap(path, mode="r").shape[:2]
        except Exception:
            return 0, 0
        return height, width
    orientation, (height, width) = read_orientation(path)
    if not height:
        return tiff_size(path)
    return (width, height) if orientation > 4 else (height, width)


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
            data = bytes_of(picture)
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
        raise UserError(
            f"{name} has the shape {values_HWC.shape}: give its axes as (height, width, bands).", kind="bands"
        )
    raise UserError(
        f"{name} holds {found} bands, but the model takes {channels}: train with data.channels={found}, "
        f"or save the image with {channels}.",
        kind="bands",
        values=[found],
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


def read_array(path: Path, kinds: str = "uif") -> np.ndarray:
    """The numbers in a .npy file, (H, W, bands) or (H, W), as (H, W, bands); `kinds` are those of numpy's dtypes.

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
    if values.dtype.kind not in kinds:
        raise UserError(
            f"{path} holds {values.dtype.name} values: save it as whole or floating-point numbers."
        )
    check_size(path, values.shape[1], values.shape[0])
    return np.array(values)


def _decode_jpeg(picture: Image.Image, min_size: tuple[int, int] | None) -> Sized | None:
    """The pixels of an RGB JPEG that is opened but not decoded; None for all other files.

    None also for a JPEG that does not end with the end mark: OpenCV would fill a missing part with grey.
    """
    if picture.format not in JPEG_FORMATS or picture.mode != "RGB":
        return None
    data = bytes_of(picture)
    orientation = picture.getexif().get(_EXIF_ORIENTATION, 1)
    if orientation not in range(1, 9) or not data.endswith(JPEG_END):
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


def _is_wide_png(picture: Image.Image) -> bool:
    """Whether an opened image is a PNG with colours of 16 bits, of which Pillow decodes the upper 8."""
    if picture.format != "PNG" or picture.mode == "I;16":
        return False
    assert isinstance(picture, ImageFile.ImageFile)
    # The raw mode of Pillow's decoder: RGB;16B, RGBA;16B, LA;16B.
    raw = picture.tile[0].args if picture.tile else ""
    return str(raw if isinstance(raw, str) else (raw or ("",))[0]).endswith(";16B")


def _read_wide_png(picture: Image.Image, *, alpha: bool) -> np.ndarray:
    """uint16 (H, W, bands) of an opened PNG with 16-bit colours; damage raises an exception of Pillow or OpenCV."""
    data, mode = bytes_of(picture), picture.mode
    orientation = _orientation(picture)
    picture.verify()  # the checksums, some of which OpenCV does not check
    values = _imdecode(data, cv2.IMREAD_UNCHANGED)
    if values is None:
        raise OSError("its pixels are damaged")
    values = to_rgb(values)
    if mode == "LA":  # OpenCV repeats the grey
        values = values[:, :, [0, -1]]
    return _turn(values if alpha or mode == "RGB" else values[:, :, :-1], orientation)


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
