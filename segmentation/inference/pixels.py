"""What people hold in Python (a path, a Pillow image, an array) -> the pixels that a model takes."""

import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from segmentation.data.bands import to_bytes
from segmentation.data.images import fit_bands, read_image, read_picture
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
        return read_picture(ImageOps.exif_transpose(picture), channels, "The image")
    if not isinstance(picture, np.ndarray):
        raise UserError(f"{type(picture).__name__} is no picture: give a path, a Pillow image or an array.")
    if picture.dtype not in (np.uint8, np.uint16) or picture.ndim not in (2, 3) or 0 in picture.shape:
        raise UserError(
            f"The array is {picture.dtype} {picture.shape}: give uint8 or uint16, (H, W) or (H, W, C)."
        )
    pixels_HWC = to_bytes(picture[:, :, None] if picture.ndim == 2 else picture)
    if channels in (1, 3) and pixels_HWC.shape[2] in (2, 4):
        pixels_HWC = pixels_HWC[:, :, :-1]  # alpha: an array cannot say what else a last band would be
    return fit_bands(pixels_HWC, channels, "The array")
