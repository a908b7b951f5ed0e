"""Inputs: the files that `input=` names, and their pixels (or those of a Pillow image or an array) for a model."""

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from segmentation.data.files import IMAGE_ENDINGS
from segmentation.data.image_io import fit_bands, is_animated, picture_values, read_image
from segmentation.data.opening import check_size
from segmentation.data.pixel_range import PixelRange, to_bytes
from segmentation.data.raster import open_raster
from segmentation.data.tiff import is_georeferenced, is_tiff
from segmentation.errors import UserError
from segmentation.reading import LIST_BYTES, read_text

if TYPE_CHECKING:
    from segmentation.checkpoint import Trained

VIDEO_ENDINGS = frozenset(
    {"avi", "gif", "m2ts", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "mts", "webm", "wmv"}
)
_ENDINGS = IMAGE_ENDINGS | VIDEO_ENDINGS
_LIST = ".txt"
_TIFF_ENDINGS = frozenset({"tif", "tiff"})


@dataclass(frozen=True)
class Input:
    """A file, and its name relative to the folder that was given, which the output keeps."""

    path: Path
    name: PurePath

    @property
    def ending(self) -> str:
        """The suffix in lower case, without the dot."""
        return self.path.suffix[1:].lower()

    @cached_property
    def is_video(self) -> bool:
        """Whether its ending is that of a video; a GIF of one frame is a picture."""
        return self.ending in VIDEO_ENDINGS and (self.ending != "gif" or is_animated(self.path))

    @property
    def is_tiff(self) -> bool:
        """Whether its ending is that of a TIFF, which can be read by window."""
        return self.ending in _TIFF_ENDINGS

    @cached_property
    def is_georeferenced(self) -> bool:
        """Whether it is a TIFF that says where on Earth its pixels lie."""
        return self.is_tiff and is_georeferenced(self.path)

    def is_raster(self, *, tiled: bool) -> bool:
        """Whether it is read by window and answered by GeoTIFF files, which keep its place on Earth."""
        return self.is_georeferenced or (tiled and self.is_tiff)


def find_inputs(given: str, output: Path) -> tuple[list[Input], bool]:
    """The files that a path, a folder, a pattern or a list names, sorted, and whether it is one file's own path.

    A folder gives its pictures and videos, those of its sub-folders too, and so does a pattern (* ? [] and ** for any
    folders); a text file is a list of paths, one a line, which may be relative to its folder. Hidden files
    are left out, and so is what lies in an `output` inside the folder, where earlier answers are.
    Raises `UserError` where nothing is found.
    """
    path = Path(given).expanduser()
    if path.suffix.lower() == _LIST and path.is_file():
        return _listed(path), False
    if path.is_file():
        return [Input(path, PurePath(path.name))], True
    if path.is_dir():
        base, found = path, list(_inside(path))
        nothing = f"{path} holds no pictures and no videos ({' '.join(sorted(_ENDINGS))})."
    elif glob.has_magic(given):
        base, found = _fixed(path), list(_matches(str(path)))
        nothing = f"input={given} matches no picture and no video."
    else:
        raise UserError(
            f"There is no file or folder {given}: give a picture, a video, a folder or a pattern."
        )
    own = output.resolve()
    if base.resolve() in own.parents:
        found = [file for file in found if own not in file.resolve().parents]
    if not found:
        raise UserError(f"{nothing} Give another input.")
    return [
        Input(file, name) for name, file in sorted((file.relative_to(base), file) for file in found)
    ], False


def _listed(path: Path) -> list[Input]:
    # Names may have other bytes.
    lines = [line.strip() for line in read_text(path, LIST_BYTES, "surrogateescape").splitlines()]
    # A link keeps its own name.
    files = [Path(os.path.abspath(path.parent / line)) for line in dict.fromkeys(lines) if line]  # noqa: PTH100
    missing = next((file for file in files if not file.is_file() or _ending(file.name) not in _ENDINGS), None)
    if missing is not None or not files:
        raise UserError(f"{path} lists {missing or 'nothing'}, which is no picture and no video: correct it.")
    base = os.path.commonpath([file.parent for file in files])
    return [Input(file, file.relative_to(base)) for file in sorted(files)]


def _inside(folder: Path) -> Iterator[Path]:
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        # A link may lead back up: each folder is entered once.
        folders[:] = [] if real in seen else [name for name in folders if not name.startswith(".")]
        for name in () if real in seen else files:
            if not name.startswith(".") and _ending(name) in _ENDINGS:
                yield Path(parent, name)
        seen.add(real)


def _fixed(pattern: Path) -> Path:
    """The folder that contains all matches."""
    first = next(index for index, step in enumerate(pattern.parts) if glob.has_magic(step))
    return Path(*pattern.parts[:first])


def _matches(pattern: str) -> Iterator[Path]:
    seen: set[str] = set()
    names = glob.glob(pattern, recursive=True)  # noqa: PTH207 - Path.glob would find hidden files
    # A link may lead back up: each file is taken once in its folder, by its shortest way.
    for path in sorted(map(Path, names), key=lambda path: len(path.parts)):
        if _ending(path.name) in _ENDINGS and path.is_file():
            real = os.path.join(os.path.realpath(path.parent), path.name)  # noqa: PTH118 - of a link its own name
            if real not in seen:
                yield path
            seen.add(real)


def _ending(name: str) -> str:
    return name.rpartition(".")[2].lower()


Picture = str | os.PathLike[str] | Image.Image | np.ndarray


def pixels_for(trained: "Trained", picture: Picture) -> np.ndarray:
    """`as_pixels` for a model; of TIFF files the bands that its training chose, in their order.

    Images and arrays in memory have the model's bands already. Raises `UserError` for other files of a model whose
    bands are not the first ones.
    """
    bands = trained.bands
    if bands is None or not isinstance(picture, str | os.PathLike):
        return as_pixels(picture, trained.channels, trained.pixel_range)
    path = Path(picture).expanduser()
    if is_tiff(path):
        with open_raster(path, trained.channels, trained.pixel_range, bands, blank=True) as raster:
            height, width = raster.size
            check_size(path, width, height)
            return raster.read(slice(0, height), slice(0, width))
    if path.exists():
        require_first_bands(trained, str(path))
    return as_pixels(path, trained.channels, trained.pixel_range)


def require_first_bands(trained: "Trained", what: str) -> None:
    """Raises `UserError`, which names `what`, for a model of other bands than the first ones, which only a TIFF has."""
    bands = trained.bands
    if bands is not None and bands != list(range(1, len(bands) + 1)):
        raise UserError(f"{what} is no TIFF, and the model takes the bands {bands} of one: give GeoTIFFs.")


def as_pixels(picture: Picture, channels: int, pixel_range: PixelRange | None = None) -> np.ndarray:
    """uint8 (H, W, `channels`), by the rules of `read_image` for every kind of input.

    Arrays are numbers, (H, W) or (H, W, C); all but uint8 are scaled as in files.
    Raises `UserError` for a file that `read_image` refuses and for other values or bands.
    """
    if isinstance(picture, str | os.PathLike):
        return read_image(Path(picture).expanduser(), channels, pixel_range)
    if isinstance(picture, Image.Image):
        values_HWC = picture_values(ImageOps.exif_transpose(picture), channels, "The image")
        return fit_bands(to_bytes(values_HWC, pixel_range, "The image"), channels, "The image")
    if not isinstance(picture, np.ndarray):
        raise UserError(f"{type(picture).__name__} is no picture: give a path, a Pillow image or an array.")
    if picture.dtype.kind not in "uif" or picture.ndim not in (2, 3) or 0 in picture.shape:
        raise UserError(f"The array is {picture.dtype} {picture.shape}: give numbers, (H, W) or (H, W, C).")
    values_HWC = picture[:, :, None] if picture.ndim == 2 else picture
    if channels in (1, 3) and values_HWC.shape[2] in (2, 4):
        values_HWC = values_HWC[:, :, :-1]  # alpha: an array cannot say what else a last band would be
    return fit_bands(to_bytes(values_HWC, pixel_range, "The array"), channels, "The array")
