"""Picture files -> Pillow's pictures, as they were saved."""

import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin

from segmentation.errors import UserError

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
