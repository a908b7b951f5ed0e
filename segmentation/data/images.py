"""Picture files -> arrays of 8 bits, whatever mode they were saved in."""

from pathlib import Path

import numpy as np
from PIL import Image

from segmentation.data import jpeg
from segmentation.data.bands import is_tiff, read_array, read_tiff, to_bytes
from segmentation.data.opening import WIDE_MODES, UnreadableError, open_picture, read_integers, unreadable
from segmentation.errors import UserError


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
    found = jpeg.read(path, least) if channels == 3 else None
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
