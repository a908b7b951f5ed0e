"""What people hold in Python (a path, a Pillow image, an array) -> the pixels that a model takes."""

import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from segmentation.data.bands import to_bytes
from segmentation.data.images import read_image
from segmentation.data.opening import WIDE_MODES
from segmentation.errors import UserError

Picture = str | os.PathLike[str] | Image.Image | np.ndarray


def as_pixels(picture: Picture, channels: int) -> np.ndarray:
    """uint8 (H, W, `channels`), by the rules of `read_image` whatever the picture came in.

    Arrays are uint8, or uint16 that is scaled as in files, (H, W) or (H, W, C).
    Raises `UserError` for a file that `read_image` refuses and for what holds other values or bands.
    """
    if isinstance(picture, str | os.PathLike):
        return read_image(Path(picture).expanduser(), channels)
    if isinstance(picture, Image.Image):
        return fit_bands(_of_pillow(picture, channels), channels, "The image")
    if not isinstance(picture, np.ndarray):
        raise UserError(f"{type(picture).__name__} is no picture: give a path, a Pillow image or an array.")
    if picture.dtype not in (np.uint8, np.uint16) or picture.ndim not in (2, 3) or 0 in picture.shape:
        raise UserError(
            f"The array is {picture.dtype} {picture.shape}: give uint8 or uint16, (H, W) or (H, W, C)."
        )
    pixels = picture[:, :, None] if picture.ndim == 2 else picture
    return fit_bands(to_bytes(pixels), channels, "The array")


def fit_bands(pixels_HWC: np.ndarray, channels: int, name: str) -> np.ndarray:
    """Grey for colour and colour for grey, alpha dropped from both; `name` is for messages.

    Raises `UserError` for any other difference in the number of bands.
    """
    found = pixels_HWC.shape[2]
    if channels in (1, 3) and found in (2, 4):
        pixels_HWC = pixels_HWC[:, :, : found - 1]
    if pixels_HWC.shape[2] == channels:
        return pixels_HWC
    if (pixels_HWC.shape[2], channels) == (1, 3):
        return np.repeat(pixels_HWC, 3, axis=2)
    if (pixels_HWC.shape[2], channels) == (3, 1):
        return np.array(Image.fromarray(np.ascontiguousarray(pixels_HWC)).convert("L"))[:, :, None]
    raise UserError(f"{name} holds {found} bands, but the model takes {channels}: give one with {channels}.")


def as_colours(pixels_HWC: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) for people to look at: the first three bands, or the first as grey."""
    shown = pixels_HWC[:, :, :3] if pixels_HWC.shape[2] >= 3 else pixels_HWC[:, :, :1].repeat(3, axis=2)
    return np.ascontiguousarray(shown)


def _of_pillow(picture: Image.Image, channels: int) -> np.ndarray:
    picture = ImageOps.exif_transpose(picture)
    if picture.mode in WIDE_MODES:
        # Pillow's own conversion clips everything above 255.
        values = np.array(picture)
        if values.min() < 0 or values.max() > 65535:
            raise UserError("The image holds values beyond 16 bits: give it with 8 or 16 bits.")
        return to_bytes(values.astype(np.uint16))[:, :, None]
    if picture.mode == "F":
        raise UserError("The image holds floating-point pixels, whose range is unknown: give 8 or 16 bits.")
    if picture.mode == "P":
        picture = picture.convert("RGBA")
    if channels in (1, 3):
        picture = picture.convert("RGB").convert("L" if channels == 1 else "RGB")
    pixels = np.array(picture)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels
