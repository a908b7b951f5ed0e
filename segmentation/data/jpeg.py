"""The usual photograph, a JPEG of three components, decoded by OpenCV: as Pillow decodes it, in less time.

JPEG holds blocks of 8 x 8 frequencies, of which a decoder can leave out the high ones: half, a quarter or an
eighth of the size come nearly for free, as averages over the pixels that they stand for.
"""

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np

from segmentation.data.opening import MAX_PIXELS, opened
from segmentation.files import read_if

_MAGIC = b"\xff\xd8\xff"
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


def read(path: Path, least: tuple[int, int] | None = None) -> Sized | None:
    """uint8 (H, W, 3) RGB, turned as its EXIF orientation says, and the (H, W) that the file has, turned too.

    With `least` (H, W) the picture is reduced to 1/2, 1/4 or 1/8 as long as it stays twice that large.
    None for whatever is not usual, or damaged: Pillow takes more files, and says what is wrong with the others.
    """
    data = read_if(path, len(_MAGIC), _MAGIC.__eq__)
    return None if data is None else decode(data, least)


def decode(data: bytes, least: tuple[int, int] | None = None) -> Sized | None:
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
