"""Mask files -> class indices. Grey and palette images hold indices, RGB images hold colours of classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, ImageChops

from segmentation.data import image_io
from segmentation.data.files import Pairs, evenly_spaced, first_of
from segmentation.data.image_io import WIDE_MODES, open_picture, present_values, read_integers
from segmentation.errors import UserError
from segmentation.types import IGNORE_INDEX, Classes, Colour

_UNKNOWN = (
    IGNORE_INDEX - 1
)  # marks colours outside the classes in the table, so colour masks have one class fewer
# Pixels looked up at once: numpy widens each code to 8 bytes, which is too much for a whole aerial image.
_STRIP = 2**20


class MaskDecoder(Protocol):
    """Reads the masks of a data set."""

    def decode(self, path: Path) -> np.ndarray:
        """uint8 (H, W), class indices, 255 is ignore. Raises `UserError` for a file that cannot be used as a mask."""
        ...


@dataclass(frozen=True)
class IndexMask:
    """Values are labels: 255 and the values in `ignore` are ignored, all others must be class indices."""

    classes: Classes
    ignore: tuple[int, ...] = ()

    def labels(self, values: np.ndarray, path: Path) -> np.ndarray:
        """uint8 (H, W) of a file's values, uint8 or uint16. Raises `UserError` for a label outside the classes."""
        count = len(self.classes)
        if values.max() < count and not self.ignore:  # the usual mask needs no further checks
            return values.astype(np.uint8, copy=False)
        special = [value for value in present_values(values) if value >= count or value in self.ignore]
        wrong = [value for value in special if value not in self.ignore and value != IGNORE_INDEX]
        if wrong:
            raise UserError(
                f"{path} holds label {first_of(wrong)}, but the {count} classes are 0..{count - 1}: "
                "correct the mask, add the class, or add the label to ignore."
            )
        for value in special:
            if value != IGNORE_INDEX:
                values[values == value] = IGNORE_INDEX
        return values.astype(np.uint8, copy=False)


@dataclass(frozen=True)
class ColourMask:
    """Colours are labels: the palette gives the colours of the classes, and the colours in `ignore` are ignored.

    Raises `UserError` if two of the colours are equal or there are more than 254 classes.
    """

    classes: Classes
    ignore: tuple[Colour, ...] = ()

    def __post_init__(self) -> None:
        owners: dict[Colour, str] = {}
        ignored = [(colour, "ignore") for colour in self.ignore]
        for colour, name in [*zip(self.classes.palette, self.classes.names, strict=True), *ignored]:
            if colour in owners:
                raise UserError(
                    f"Classes '{owners[colour]}' and '{name}' have the same colour {colour}: give each its own."
                )
            owners[colour] = name
        if len(self.classes) > _UNKNOWN:
            raise UserError(f"{len(self.classes)} classes: colour masks can have at most {_UNKNOWN}.")

    def labels(self, picture: Image.Image, path: Path) -> np.ndarray:
        """uint8 (H, W) of an RGB(A) image, without alpha. Raises `UserError` for a colour outside the classes."""
        table = _colour_table(self.classes.palette, self.ignore)
        codes = np.asarray(picture.convert("RGBA")).view("<u4")[..., 0]
        labels = np.empty(codes.shape, np.uint8)
        rows = max(1, _STRIP // codes.shape[1])
        for top in range(0, len(codes), rows):
            labels[top : top + rows] = table[codes[top : top + rows] & 0xFFFFFF]
        unknown = labels == _UNKNOWN
        if unknown.any():
            code = int(codes[unknown][0])
            colour = (code & 255, code >> 8 & 255, code >> 16 & 255)
            raise UserError(
                f"{path} holds the colour {colour}, which is not a class; the nearest is "
                f"{self._nearest(colour)}: correct the mask, or add the colour to the classes or to ignore."
            )
        return labels

    def _nearest(self, colour: Colour) -> str:
        distances = np.abs(np.array(self.classes.palette) - colour).sum(axis=1)
        label = int(distances.argmin())
        return f"{self.classes.palette[label]}, '{self.classes.names[label]}'"


@dataclass(frozen=True)
class LabelMask:
    """Reads grey and palette files as `indices`, and RGB(A) files as `colours` if the classes have colours."""

    indices: IndexMask
    colours: ColourMask | None

    def decode(self, path: Path) -> np.ndarray:
        """uint8 (H, W), class indices, 255 is ignore.

        Raises `UserError` for a JPEG, for values outside the classes, and for an RGB file without `colours`.
        """
        usual = image_io.read_grey_png(path)
        if usual is not None:
            return self.indices.labels(usual, path)
        picture = open_picture(path)
        if is_lossy(picture):
            raise UserError(f"{path} is a JPEG, which blurs labels into each other: save the masks as PNG.")
        if picture.mode in {"P", "L", "1", *WIDE_MODES}:
            return self.indices.labels(read_integers(picture, path), path)
        if picture.mode not in ("RGB", "RGBA"):
            raise UserError(f"{path} has mode {picture.mode}: save the mask as grey, palette or RGB PNG.")
        if self.colours is None:
            raise UserError(
                f"{path} is an RGB mask, but the classes have no colours: give them in classes.yaml "
                "(names: {NAME: [R, G, B]}), or save class indices as grey PNG."
            )
        return self.colours.labels(picture, path)


def is_lossy(picture: Image.Image) -> bool:
    """Whether the file was compressed as JPEG, which changes the values."""
    return picture.format in ("JPEG", "MPO") or picture.info.get("compression") == "jpeg"


@lru_cache(maxsize=2)
def _colour_table(palette: Sequence[Colour], ignore: Sequence[Colour]) -> np.ndarray:
    """Label of every 24-bit colour (red lowest): 16 MiB, built once and shared by all splits and workers."""
    table = np.full(2**24, _UNKNOWN, np.uint8)
    for label, (red, green, blue) in enumerate(palette):
        table[red | green << 8 | blue << 16] = label
    for red, green, blue in ignore:
        table[red | green << 8 | blue << 16] = IGNORE_INDEX
    return table


_COLOUR_NOISE = 32  # the channels of a grey image differ by less after it was saved as a colour JPEG
# Masks checked to find the threshold, first 16 and then, if these have no foreground, 512.
_CHECKED = (16, 512)


@dataclass(frozen=True)
class BinaryMask:
    """Values above `threshold` are foreground; pixels with the value `ignore`, if it is given, are ignored.

    `foreground` is the foreground value that `find_threshold` found in some of the masks, 1 or 255; each file
    is compared with it. None if the user chose the threshold.
    """

    threshold: int
    ignore: int | None = None
    foreground: int | None = None

    def decode(self, path: Path) -> np.ndarray:
        """uint8 (H, W): 1 foreground, 0 background, 255 ignore.

        Raises `UserError` for coloured masks, for values that contradict the other masks of the data set,
        and for a JPEG if there is a value to ignore.
        """
        values, lossy = image_io.read_grey_png(path), False
        if values is None:
            picture = open_picture(path)
            if picture.mode == "1":  # one bit is unambiguous: no threshold needed
                return np.array(picture).astype(np.uint8)
            values, lossy = grey_values(picture, path), is_lossy(picture)
        if lossy and self.ignore is not None:
            raise UserError(
                f"{path} is a JPEG, which blurs dataset.ignore={self.ignore}: save the masks as PNG."
            )
        if self.foreground is not None and not self._is_usual(values):
            self._check(
                {value for value in present_values(values) if value != self.ignore}, path, lossy=lossy
            )
        mask = (values > self.threshold).view(np.uint8)
        if self.ignore is not None:
            mask[values == self.ignore] = IGNORE_INDEX
        return mask

    def _is_usual(self, values: np.ndarray) -> bool:
        # Checked without counting every value, so that correct files take little time.
        if self.ignore is not None:
            return False
        high = int(values.max())
        return high <= 1 if self.foreground == 1 else high > 1 and not (values == 1).any()

    def _check(self, found: set[int], path: Path, *, lossy: bool) -> None:
        high = max(found, default=0)
        if not lossy and {1, 255} <= found <= {0, 1, 255}:
            raise UserError(
                f"{path} holds both 1 and 255: set dataset.ignore=255 if 255 is not a label, "
                "otherwise set dataset.threshold."
            )
        if self.foreground == 1 and high > 1:
            raise UserError(
                f"{path} holds the value {high}, but other masks hold 0 and 1 only: correct it, "
                "or set dataset.threshold."
            )
        if self.foreground == 255 and high == 1 and not lossy:
            raise UserError(
                f"{path} holds 0 and 1 only, but other masks go up to 255: correct it, "
                "or set dataset.threshold."
            )


def find_threshold(pairs: Pairs, ignore: int | None) -> BinaryMask:
    """The decoder for masks of 0/1 or of 0/255, decided from masks spread over the data set.

    Raises `UserError` if they have no foreground or are neither 0/1 nor 0/255, and for unreadable masks.
    """
    high, checked = 0, 0
    for count in _CHECKED:
        if not high:
            indices = evenly_spaced(len(pairs), count)
            high, checked = max(_brightest(pairs.mask_path(index), ignore) for index in indices), len(indices)
    if not high:
        raise UserError(
            f"No foreground in {checked} masks of {pairs.mask_folder}: correct them, or set dataset.threshold=0 "
            "for masks of 0/1 or dataset.threshold=127 for masks of 0/255."
        )
    if 1 < high <= 127:
        raise UserError(
            f"The masks in {pairs.mask_folder} go up to {high}, neither 0/1 nor 0/255: set dataset.threshold, "
            "or use dataset=folder for several classes."
        )
    return BinaryMask(0, ignore, 1) if high == 1 else BinaryMask(127, ignore, 255)


def grey_values(picture: Image.Image, path: Path) -> np.ndarray:
    """uint8 (H, W), the values in the file: for a palette of greys the greys, for other palettes the indices.

    Alpha is dropped. Raises `UserError` for coloured images and for values above 255.
    """
    if picture.mode in WIDE_MODES:
        values = read_integers(picture, path)
        if values.max() > 255:
            raise UserError(f"{path} holds the value {values.max()}: save the mask with 8 bits.")
        return values.astype(np.uint8)
    if picture.mode == "P":
        indices = np.array(picture)
        colours = np.array(picture.getpalette("RGB")).reshape(-1, 3)
        used = present_values(indices)
        if used[-1] >= len(colours) or np.ptp(colours[used], axis=1).any():
            return indices
        picture.info.pop("transparency", None)  # Pillow would warn about it
    elif picture.mode in ("RGB", "RGBA"):
        red, green, blue = picture.split()[:3]
        pairs = ((red, green), (green, blue), (red, blue))
        if max(np.asarray(ImageChops.difference(*pair)).max() for pair in pairs) > _COLOUR_NOISE:
            raise UserError(
                f"{path} is coloured, but binary masks are grey: save it as 0/255, "
                "or use dataset=folder with the colours as classes."
            )
    elif picture.mode not in ("L", "LA"):
        raise UserError(f"{path} has mode {picture.mode}: save the mask as grey PNG or JPEG.")
    return np.array(picture.convert("L"))


def _brightest(path: Path, ignore: int | None) -> int:
    picture = open_picture(path)
    values = np.array(picture.convert("L")) if picture.mode == "1" else grey_values(picture, path)
    return max((value for value in present_values(values) if value != ignore), default=0)
