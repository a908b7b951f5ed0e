"""Mask files -> class indices. Grey and palette images hold indices, RGB images hold colours of classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from PIL import Image

from segmentation.data import image_io
from segmentation.data.files import Listing, evenly_spaced, first_of
from segmentation.data.image_io import WIDE_MODES, open_picture, present_values, read_integers
from segmentation.data.opening import opened
from segmentation.errors import UserError
from segmentation.types import IGNORE_INDEX, Classes, Colour

_UNKNOWN = (
    IGNORE_INDEX - 1
)  # marks colours outside the classes in the table, so colour masks have one class fewer
# Pixels looked up at once: numpy widens each code to 8 bytes, which is too much for a whole aerial image.
_STRIP = 2**20
_SHOWN = 5  # colours in a message
_CHECKED = 16  # masks whose headers are read


class MaskDecoder(Protocol):
    """Reads the masks of a data set."""

    def decode(self, path: Path) -> np.ndarray:
        """uint8 (H, W), class indices, 255 is ignore. Raises `UserError` for a file that cannot be used as a mask."""
        ...


@dataclass(frozen=True)
class IndexMask:
    """Values are labels: 255 and the values in `ignore` are ignored, all others must be labels of classes.

    `labels` are pairs of a value and the index of its class; without, values are the indices. `others` is the index of
    values that are no labels; None: they are an error.
    """

    classes: Classes
    ignore: tuple[int, ...] = ()
    labels: tuple[tuple[int, int], ...] = ()
    others: int | None = None

    def indices(self, values: np.ndarray, path: Path) -> np.ndarray:
        """uint8 (H, W) of a file's values, uint8 or uint16. Raises `UserError` for a label outside the classes."""
        count = len(self.classes)
        if (
            values.max() < count and not self.ignore and not self.labels
        ):  # the usual mask needs no further checks
            return values.astype(np.uint8, copy=False)
        index_of = {
            IGNORE_INDEX: IGNORE_INDEX,
            **(dict(self.labels) or {label: label for label in range(count)}),
        }
        index_of |= dict.fromkeys(self.ignore, IGNORE_INDEX)
        present = present_values(values)
        wrong = [value for value in present if value not in index_of]
        if self.others is not None:
            index_of |= dict.fromkeys(wrong, self.others)
        elif wrong:
            raise UserError(
                f"{path} holds label {first_of(wrong)}, {self._cure(wrong[-1], path)}",
                kind="label-range",
                values=wrong,
            )
        changed = [value for value in present if index_of[value] != value]
        if changed and values.dtype == np.uint8:
            return cv2.LUT(values, np.array([index_of.get(value, value) for value in range(256)], np.uint8))
        # There may be thousands of other values, and few labels.
        some = set(present) - set(wrong) if wrong else changed
        indices = np.full(values.shape, self.others, np.uint8) if wrong else values.astype(np.uint8)
        for value in some:
            indices[values == value] = index_of[value]
        return indices

    def _cure(self, wrong: int, path: Path) -> str:
        names, count = self.classes.names, len(self.classes)
        if path.stem.endswith(("_instanceIds", "_labelIds")):
            return "an id of Cityscapes: use the files that end in _labelTrainIds."
        if self.labels:
            known = first_of([label for label, _ in self.labels], 8)
            return f"but the classes are {known}: add it to labels or to ignore."
        if wrong == count:
            return (
                f"but the {count} classes are 0..{count - 1}: where they begin at 1, write "
                f"labels: {{1: {names[0]}, 2: {names[1]}, ...}}; else add the class, or add the label to ignore."
            )
        return (
            f"but the {count} classes are 0..{count - 1}: correct the mask, add the class, add the label to ignore, "
            "or write labels: {VALUE: NAME, ...}."
        )


@dataclass(frozen=True)
class ColourMask:
    """Colours are labels: the palette gives the colours of the classes, and the colours in `ignore` are ignored.

    `more` are pairs of a further colour and the index of its class. `others` is the index of colours that are none of
    these; None: they are an error.

    Raises `UserError` if two of the colours are equal or there are more than 254 classes.
    """

    classes: Classes
    ignore: tuple[Colour, ...] = ()
    more: tuple[tuple[Colour, int], ...] = ()
    others: int | None = None

    def __post_init__(self) -> None:
        owners: dict[Colour, str] = {}
        further = [(colour, "ignore") for colour in self.ignore]
        further += [(colour, self.classes.names[label]) for colour, label in self.more]
        for colour, name in [*zip(self.classes.palette, self.classes.names, strict=True), *further]:
            if colour in owners:
                raise UserError(
                    f"Classes '{owners[colour]}' and '{name}' have the same colour {colour}: give each its own."
                )
            owners[colour] = name
        if len(self.classes) > _UNKNOWN:
            raise UserError(f"{len(self.classes)} classes: colour masks can have at most {_UNKNOWN}.")

    def indices(self, picture: Image.Image, path: Path) -> np.ndarray:
        """uint8 (H, W) of an RGB(A) image, without alpha. Raises `UserError` for a colour outside the classes."""
        table = _colour_table(self.classes.palette, self.ignore, self.more)
        codes = np.asarray(picture.convert("RGBA")).view("<u4")[..., 0]
        labels = np.empty(codes.shape, np.uint8)
        rows = max(1, _STRIP // codes.shape[1])
        for top in range(0, len(codes), rows):
            labels[top : top + rows] = table[codes[top : top + rows] & 0xFFFFFF]
        unknown = codes[labels == _UNKNOWN] & 0xFFFFFF
        if self.others is not None:
            labels[labels == _UNKNOWN] = self.others
        elif len(unknown):
            raise UserError(f"{path} holds {self._cure(np.unique(unknown).tolist())}", kind="mask-colours")
        return labels

    def fits_better(self, picture: Image.Image) -> bool:
        """Whether a palette image shows the colours of classes at other indices than those of the classes.

        Programs that pack RGB masks number the colours as they come.
        """
        used = present_values(np.array(picture))
        parts = picture.getpalette("RGB") or []
        colours = [tuple(parts[3 * index : 3 * index + 3]) for index in used]
        known = {*self.classes.palette, *self.ignore, *(colour for colour, _ in self.more)}
        own = dict(enumerate(self.classes.palette))
        moved = [index for index, colour in zip(used, colours, strict=True) if own.get(index) != colour]
        return moved not in ([], [IGNORE_INDEX]) and len(set(colours)) == len(used) and known >= set(colours)

    def _cure(self, codes: list[int]) -> str:
        colours = [(code & 255, code >> 8 & 255, code >> 16 & 255) for code in codes]
        if len(colours) > 1:
            listed = ", ".join(map(str, colours[:_SHOWN])) + (", ..." if len(colours) > _SHOWN else "")
            return (
                f"{len(colours)} colours that are no classes ({listed}): correct the mask, or add the colours to the "
                "classes or to ignore."
            )
        return (
            f"the colour {colours[0]}, which is not a class; the nearest is {self._nearest(colours[0])}: "
            "correct the mask, or add the colour to the classes or to ignore."
        )

    def _nearest(self, colour: Colour) -> str:
        distances = np.abs(np.array(self.classes.palette) - colour).sum(axis=1)
        label = int(distances.argmin())
        return f"{self.classes.palette[label]}, '{self.classes.names[label]}'"


@dataclass(frozen=True)
class LabelMask:
    """Reads grey and palette files as `values`, and RGB(A) files as `colours` if the classes have colours.

    So are palette files whose colours are those of the classes in another order.
    `eight_bits` says that some masks of the data set are grey with 8 bits or more: what the 1 of a file with fewer bits
    means is then unknown, because programs that shrink pictures write 255 so.
    """

    values: IndexMask
    colours: ColourMask | None
    eight_bits: bool = False

    def decode(self, path: Path) -> np.ndarray:
        """uint8 (H, W), class indices, 255 is ignore.

        Raises `UserError` for a JPEG, for values outside the classes, for an RGB file without `colours`, for a file
        with another number of bits than the others, and for one whose shape is in its alpha channel.
        """
        usual = image_io.read_grey_png(path)
        if usual is not None:
            return self.values.indices(usual, path)
        picture = open_picture(path)
        if is_lossy(picture):
            raise UserError(
                f"{path} is a JPEG, which blurs labels into each other: save the masks as PNG.",
                kind="lossy-mask",
            )
        if (
            picture.mode == "P"
            and self.colours
            and not self.values.labels
            and self.colours.fits_better(picture)
        ):
            picture = picture.convert("RGBA")
        if picture.mode in {"P", "L", "1", *WIDE_MODES}:
            values = read_integers(picture, path)
            if self.eight_bits and picture.info["bits"] < 8 and values.any():
                raise UserError(
                    f"{path} is grey with {_bits(picture)}, but other masks have 8: it is unknown whether its "
                    f"{values.max()} is that label or a larger one that was packed. Save all masks with 8 bits.",
                    kind="mask-values",
                )
            return self.values.indices(values, path)
        refuse_shape_in_alpha(picture, path)
        if picture.mode not in ("RGB", "RGBA"):
            raise UserError(
                f"{path} has mode {picture.mode}: save the mask as grey, palette or RGB PNG.",
                kind="mask-colours",
            )
        if self.colours is not None:
            return self.colours.indices(picture, path)
        red, green, blue = (np.array(band) for band in picture.split()[:3])
        if np.array_equal(red, green) and np.array_equal(red, blue):
            return self.values.indices(red, path)
        raise UserError(
            f"{path} is an RGB mask, but the classes have no colours: give them in classes.yaml "
            "(names: {NAME: [R, G, B]}), or save class indices as grey PNG.",
            kind="mask-colours",
        )


def any_with_eight_bits(masks: Listing) -> bool:
    """Whether one of some masks, spread over the data set, is grey with 8 bits or more: their headers are read."""
    return any(_has_eight_bits(masks.path(index)) for index in evenly_spaced(len(masks), _CHECKED))


def _has_eight_bits(path: Path) -> bool:
    try:
        with opened(path) as picture:
            return picture.mode in ("L", *WIDE_MODES) and image_io.grey_bits(picture) == 8
    except Exception:  # a damaged file, which is reported when it is decoded
        return False


def _bits(picture: Image.Image) -> str:
    bits: int = picture.info["bits"]
    return "1 bit a pixel" if bits == 1 else f"{bits} bits a pixel"


def refuse_shape_in_alpha(picture: Image.Image, path: Path) -> None:
    """Raises `UserError` for a picture of one colour whose alpha differs from pixel to pixel."""
    if picture.mode not in ("LA", "RGBA") and not (picture.mode == "P" and "transparency" in picture.info):
        return
    *colours, alpha = (band.getextrema() for band in picture.convert("RGBA").split())
    if alpha[0] != alpha[1] and all(low == high for low, high in colours):
        raise UserError(
            f"{path} has one colour, and its shape in the alpha channel: save that channel as a grey mask.",
            kind="mask-colours",
        )


def is_lossy(picture: Image.Image) -> bool:
    """Whether the file was compressed as JPEG, which changes the values."""
    return picture.format in ("JPEG", "MPO") or picture.info.get("compression") == "jpeg"


@lru_cache(maxsize=2)
def _colour_table(
    palette: Sequence[Colour], ignore: Sequence[Colour], more: Sequence[tuple[Colour, int]]
) -> np.ndarray:
    """Label of every 24-bit colour (red lowest): 16 MiB, built once and shared by all splits and workers."""
    table = np.full(2**24, _UNKNOWN, np.uint8)
    for (red, green, blue), label in (*((colour, label) for label, colour in enumerate(palette)), *more):
        table[red | green << 8 | blue << 16] = label
    for red, green, blue in ignore:
        table[red | green << 8 | blue << 16] = IGNORE_INDEX
    return table
