"""Mask files -> class indices: palette and grey pictures as indices, RGB pictures as colours."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from segmentation.classes import Classes, Colour
from segmentation.data import png
from segmentation.data.files import first_of
from segmentation.data.opening import WIDE_MODES, open_picture, present_values, read_integers
from segmentation.errors import UserError
from segmentation.sample import IGNORE_INDEX

_UNKNOWN = IGNORE_INDEX - 1  # marks colours of no class in the table, so colour masks have one class fewer
_STRIP = (
    2**20
)  # pixels looked up at a time: numpy widens each code to 8 bytes, too much for aerial images at once


class MaskDecoder(Protocol):
    """How the masks of a data set are read."""

    def decode(self, path: Path) -> np.ndarray:
        """uint8 (H, W), class indices, 255 is ignore. Raises `UserError` for a file without them."""
        ...


@dataclass(frozen=True)
class IndexMask:
    """Values are labels; 255 and the values in `ignore` are ignored, all others must be classes."""

    classes: Classes
    ignore: tuple[int, ...] = ()

    def labels(self, values: np.ndarray, path: Path) -> np.ndarray:
        """uint8 (H, W) of a file's values, uint8 or uint16. Raises `UserError` for a label outside the classes."""
        count = len(self.classes)
        if values.max() < count and not self.ignore:  # the usual mask needs no closer look
            return values.astype(np.uint8, copy=False)
        special = [value for value in present_values(values) if value >= count or value in self.ignore]
        wrong = [value for value in special if value not in self.ignore and value != IGNORE_INDEX]
        if wrong:
            raise UserError(
                f"{path} holds label {first_of(wrong)}, but the {count} classes are 0..{count - 1}: "
                "mend the mask, add the class, or add the label to ignore."
            )
        for value in special:
            if value != IGNORE_INDEX:
                values[values == value] = IGNORE_INDEX
        return values.astype(np.uint8, copy=False)


@dataclass(frozen=True)
class ColourMask:
    """Colours are classes, by the palette; the colours in `ignore` are ignored.

    Raises `UserError` where two of the colours are equal or there are more than 254 classes.
    """

    classes: Classes
    ignore: tuple[Colour, ...] = ()

    def __post_init__(self) -> None:
        owners: dict[Colour, str] = {}
        ignored = [(colour, "ignore") for colour in self.ignore]
        for colour, name in [*zip(self.classes.palette, self.classes.names, strict=True), *ignored]:
            if colour in owners:
                raise UserError(
                    f"Classes '{owners[colour]}' and '{name}' share the colour {colour}: give each its own."
                )
            owners[colour] = name
        if len(self.classes) > _UNKNOWN:
            raise UserError(f"{len(self.classes)} classes: masks of colours can tell {_UNKNOWN} apart.")

    def labels(self, picture: Image.Image, path: Path) -> np.ndarray:
        """uint8 (H, W) of an RGB(A) picture, alpha aside. Raises `UserError` for a colour of no class."""
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
                f"{path} holds the colour {colour}, which is no class; the nearest is "
                f"{self._nearest(colour)}: mend the mask, or add the colour to the classes or to ignore."
            )
        return labels

    def _nearest(self, colour: Colour) -> str:
        distances = np.abs(np.array(self.classes.palette) - colour).sum(axis=1)
        label = int(distances.argmin())
        return f"{self.classes.palette[label]}, '{self.classes.names[label]}'"


@dataclass(frozen=True)
class LabelMask:
    """Reads each file by what it is: palette and grey as `indices`, RGB(A) as `colours`, if there are any."""

    indices: IndexMask
    colours: ColourMask | None

    def decode(self, path: Path) -> np.ndarray:
        """uint8 (H, W), class indices, 255 is ignore.

        Raises `UserError` for a JPEG, for values outside the classes, and for colours where none are known.
        """
        usual = png.read(path)
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
    """Whether the file was compressed as JPEG, so that its values are not the ones that were saved."""
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
