"""Picture files -> arrays, whatever mode they were saved in."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from segmentation.errors import UserError

MAX_PIXELS = 2**30
"""The largest picture that is opened: 32768 x 32768, 3 GiB once decoded. Aerial images reach hundreds of
megapixels, which Pillow's own guard against decompression bombs (179) would refuse."""

# Pillow knows its limit only as a global; `open_picture` holds every header against ours instead.
Image.MAX_IMAGE_PIXELS = None

WIDE_MODES = frozenset({"I;16", "I;16B", "I;16L", "I"})
"""Pillow's names for grey with more than 8 bits."""


def read_image(path: Path) -> np.ndarray:
    """The picture as uint8 (H, W, 3), turned as its EXIF orientation says.

    Grey, palette and CMYK pictures become RGB and alpha is dropped, not blended. 16-bit grey is scaled from
    0..65535 to 0..255. Raises `UserError` for a file that `open_picture` refuses, for floating-point pixels
    and for integers beyond 16 bits.
    """
    picture = open_picture(path)
    if picture.mode == "F":
        raise UserError(
            f"{path} holds floating-point pixels, whose range is unknown: save it with 8 or 16 bits."
        )
    if picture.mode in WIDE_MODES:
        # Pillow's own conversion clips everything above 255.
        values = read_integers(picture, path).astype(np.uint32)
        grey = ((values + 128) // 257).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if picture.mode == "P":
        picture = picture.convert("RGBA")  # straight to RGB warns where the palette has transparent colours
    try:
        return np.array(picture.convert("RGB"))
    except ValueError as error:
        raise _unreadable(path, f"its colours are {picture.mode}") from error


def open_picture(path: Path) -> Image.Image:
    """The decoded picture in the mode it was saved in, turned as its EXIF orientation says.

    Raises `UserError` for a file that is missing, empty, damaged, no picture, or larger than `MAX_PIXELS`.
    """
    try:
        # Nothing that Pillow warns of (odd metadata) changes a pixel or is the user's to mend.
        with warnings.catch_warnings(action="ignore"), Image.open(path) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise UserError(
                    f"{path} has {width}x{height} pixels, more than {MAX_PIXELS}: cut it into tiles."
                )
            picture.load()
            # In place, lest every picture is copied for the few that must be turned.
            ImageOps.exif_transpose(picture, in_place=True)
            return picture
    except UserError:
        raise
    except FileNotFoundError as error:
        raise _unreadable(path, "there is no such file") from error
    except Image.UnidentifiedImageError as error:
        empty = path.stat().st_size == 0
        raise _unreadable(
            path, "it is empty (0 bytes)" if empty else "it is damaged or no picture"
        ) from error
    except Exception as error:  # decoders raise many kinds; all mean that this file is damaged
        cause = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
        raise _unreadable(path, cause) from error


def read_integers(picture: Image.Image, path: Path) -> np.ndarray:
    """The values of a grey or palette picture of up to 16 bits: (H, W), uint16 for `WIDE_MODES`, else uint8.

    Raises `UserError` for values outside 0..65535, which 32-bit files may hold.
    """
    values = np.array(picture)
    if values.dtype == np.int32:
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 65535:
            raise UserError(f"{path} holds values {low}..{high}: save it with 8 or 16 bits.")
    return values.astype(np.uint16 if picture.mode in WIDE_MODES else np.uint8, copy=False)


def present_values(values: np.ndarray) -> list[int]:
    """The different values in a uint8 or uint16 array, sorted."""
    if values.dtype == np.uint8:
        # Pillow counts bytes in place; numpy would first sort them or widen each to eight.
        return [value for value, count in enumerate(Image.fromarray(values).histogram()) if count]
    return [int(value) for value in np.unique(values)]


def _unreadable(path: Path, cause: str) -> UserError:
    return UserError(f"{path} cannot be read: {cause}. Repair it, or remove it with its partner.")
