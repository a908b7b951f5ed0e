"""The usual mask, a PNG of 8-bit grey, decoded by OpenCV: as Pillow decodes it, in less time."""

import zlib
from pathlib import Path

import cv2
import numpy as np

from segmentation.files import read_if

_HEAD = 29  # bytes that tell whether a file is usual
_MAGIC = b"\x89PNG\r\n\x1a\n"
_GREY = b"\x08\x00\x00\x00\x00"  # bits, colour type, compression, filter, interlace
_SIDE, _AREA = 1_000_000, 2**30  # the limits of libpng and OpenCV
_PLAIN = frozenset({b"IHDR", b"IDAT", b"IEND", b"pHYs", b"gAMA", b"sRGB"})
"""Chunks that change no value. Others may turn the picture, as EXIF in a text does."""


def read(path: Path) -> np.ndarray | None:
    """uint8 (H, W) of a usual file; None for others, and damaged ones: Pillow says what is wrong with them."""
    data = read_if(path, _HEAD, _is_usual)
    try:
        return None if data is None else decode(data)
    except (MemoryError, cv2.error):
        return None


def decode(data: bytes) -> np.ndarray | None:
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
