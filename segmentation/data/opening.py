"""Opens picture files safely: known formats only, bounded size, every damage as a `UserError` that names the file."""

import base64
import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageFile, ImageOps, PngImagePlugin, TiffImagePlugin

from segmentation.errors import UserError
from segmentation.reading import read_json

MAX_PIXELS = 2**30
"""The largest image that is opened: 32768 x 32768 pixels, 3 GiB when decoded. Aerial images have hundreds of
megapixels, and Pillow's own limit against decompression bombs is 179."""
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF")
"""The formats that are read, whatever a file is called: Pillow would give EPS to Ghostscript, which runs programs."""
JPEG_FORMATS = ("JPEG", "MPO")  # MPO is a JPEG with further pictures behind it
_JPEG_SCAN = b"\xff\xda"  # the header's last segment starts with it, then the pixels follow
_JSON_BYTES = 2**29
_MOST_UNPACKED = 1032  # bytes that zlib makes of one
JPEG_END = b"\xff\xd9"


class UnreadableError(UserError):
    """A file that Pillow cannot read, or not with all of its bands."""

    kind = "unreadable"


@contextmanager
def opened(path: Path | BytesIO) -> Iterator[Image.Image]:
    """`Image.open` without messages and without Pillow's size limit: check `MAX_PIXELS` before decoding.

    Of labelme's JSON files, the copy of the picture in them.

    Pillow's limit is a global variable that belongs to the host program. So it is lifted only for an image that
    Pillow refuses, and only while this image is open.
    """
    with silent_pillow(), _with_long_texts(), ExitStack() as stack:
        source = path
        if isinstance(path, Path) and path.suffix.lower() == ".json":
            source = _copy_in_json(path)
        try:
            picture = Image.open(source, formats=FORMATS)
        except Image.DecompressionBombError:
            stack.enter_context(_without_limit())
            picture = Image.open(source, formats=FORMATS)
        stack.enter_context(picture)
        _refuse_bomb(picture)
        yield picture


def _refuse_bomb(picture: Image.Image) -> None:
    """Raises `OSError` for a PNG that claims more pixels than its bytes can hold, where Pillow would add black ones."""
    if isinstance(picture, PngImagePlugin.PngImageFile):
        assert picture.fp is not None
        position = picture.fp.tell()
        most = picture.fp.seek(0, os.SEEK_END) * _MOST_UNPACKED
        picture.fp.seek(position)
        if picture.height * (1 + picture.width // 8) > most:  # rows of at least a bit a pixel
            raise OSError("its end is missing")


def _copy_in_json(path: Path) -> BytesIO:
    """The picture that labelme keeps in its files."""
    return BytesIO(base64.b64decode(read_json(path, _JSON_BYTES)["imageData"], validate=True))


@contextmanager
def opened_file(path: Path) -> Iterator[Image.Image]:
    """`opened`, with `UserError` for all errors of the file, also those of decoding inside the block."""
    try:
        with opened(path) as picture:
            check_size(path, *picture.size)
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


def load(picture: Image.Image) -> None:
    """Decodes the image and rotates it by its EXIF orientation, in place: most need no rotation, and so no copy.

    Raises `OSError` for a JPEG without its end mark: some versions of Pillow decode a file that lacks little.
    """
    if picture.format in JPEG_FORMATS and _is_cut_short(bytes_of(picture)):
        raise OSError("its end is missing")
    picture.load()
    ImageOps.exif_transpose(picture, in_place=True)


def _is_cut_short(jpeg: bytes) -> bool:
    """Whether the end mark of the (first) image in a JPEG file is missing.

    The search starts behind the header, because a thumbnail in the header has an end mark of its own.
    """
    position = 2
    while (marker := jpeg[position : position + 2]) not in (b"", _JPEG_SCAN):
        filler = marker == b"\xff\xff"  # markers may be preceded by any number of bytes FF
        position += 1 if filler else 2 + int.from_bytes(jpeg[position + 2 : position + 4])
    return JPEG_END not in jpeg[position:]


def bytes_of(picture: Image.Image) -> bytes:
    """The whole file of an opened image, without opening it again or changing Pillow's position in it."""
    assert isinstance(picture, ImageFile.ImageFile) and picture.fp is not None
    position = picture.fp.tell()
    picture.fp.seek(0)
    data: bytes = picture.fp.read()
    picture.fp.seek(position)
    return data


def check_size(name: Path | str, width: int, height: int) -> None:
    """Raises `UserError` for more than `MAX_PIXELS` pixels."""
    if width * height > MAX_PIXELS:
        raise UserError(
            f"{name} has {width}x{height} pixels, more than {MAX_PIXELS}: cut it into tiles,"
            " or give predict.py a TIFF and tile=1024."
        )


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
