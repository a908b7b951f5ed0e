"""Mask files -> class indices. Grey and palette images hold indices, RGB images hold colours of classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
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
_SHOWN = 5  # colours in a message


class MaskDecoder(Protocol):
    """Reads the masks of a data set."""

    def decode(self, path: Path) -> np.ndarray:
        """uint8 (H, W), class indices, 255 is ignore. Raises `UserError` for a file that cannot be used as a mask."""
        ...


@dataclass(frozen=True)
class IndexMask:
    """Values are labels: 255 and the values in `ignore` are ignored, all others must be labels of classes.

    `labels` are pairs of a value and the index of its class; without, values are the indices.
    """

    classes: Classes
    ignore: tuple[int, ...] = ()
    labels: tuple[tuple[int, int], ...] = ()

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
        if wrong:
            raise UserError(f"{path} holds label {first_of(wrong)}, {self._cure(wrong[-1], path)}")
        changed = [value for value in present if index_of[value] != value]
        if changed and values.dtype == np.uint8:
            return cv2.LUT(values, np.array([index_of.get(value, value) for value in range(256)], np.uint8))
        indices = values.astype(np.uint8)
        for value in changed:
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
            f"but the {count} classes are 0..{count - 1}: "
            "correct the mask, add the class, or add the label to ignore."
        )


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

    def indices(self, picture: Image.Image, path: Path) -> np.ndarray:
        """uint8 (H, W) of an RGB(A) image, without alpha. Raises `UserError` for a colour outside the classes."""
        table = _colour_table(self.classes.palette, self.ignore)
        codes = np.asarray(picture.convert("RGBA")).view("<u4")[..., 0]
        labels = np.empty(codes.shape, np.uint8)
        rows = max(1, _STRIP // codes.shape[1])
        for top in range(0, len(codes), rows):
            labels[top : top + rows] = table[codes[top : top + rows] & 0xFFFFFF]
        unknown = codes[labels == _UNKNOWN] & 0xFFFFFF
        if len(unknown):
            raise UserError(f"{path} holds {self._cure(np.unique(unknown).tolist())}")
        return labels

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
            raise UserError(f"{path} is a JPEG, which blurs labels into each other: save the masks as PNG.")
        if picture.mode in {"P", "L", "1", *WIDE_MODES}:
            values = read_integers(picture, path)
            if self.eight_bits and picture.info["bits"] < 8 and values.any():
                raise UserError(
                    f"{path} is grey with {_bits(picture)}, but other masks have 8: it is unknown whether its "
                    f"{values.max()} is that label or a larger one that was packed. Save all masks with 8 bits."
                )
            return self.values.indices(values, path)
        _refuse_shape_in_alpha(picture, path)
        if picture.mode not in ("RGB", "RGBA"):
            raise UserError(f"{path} has mode {picture.mode}: save the mask as grey, palette or RGB PNG.")
        if self.colours is not None:
            return self.colours.indices(picture, path)
        red, green, blue = (np.array(band) for band in picture.split()[:3])
        if np.array_equal(red, green) and np.array_equal(red, blue):
            return self.values.indices(red, path)
        raise UserError(
            f"{path} is an RGB mask, but the classes have no colours: give them in classes.yaml "
            "(names: {NAME: [R, G, B]}), or save class indices as grey PNG."
        )


def any_with_eight_bits(pairs: Pairs) -> bool:
    """Whether one of some masks, spread over the data set, is grey with 8 bits or more: their headers are read."""
    return any(_has_eight_bits(pairs.mask_path(index)) for index in evenly_spaced(len(pairs), _CHECKED[0]))


def _has_eight_bits(path: Path) -> bool:
    try:
        with image_io.opened(path) as picture:
            return picture.mode in ("L", *WIDE_MODES) and image_io.grey_bits(picture) == 8
    except Exception:  # a damaged file, which is reported when it is decoded
        return False


def _bits(picture: Image.Image) -> str:
    bits: int = picture.info["bits"]
    return "1 bit a pixel" if bits == 1 else f"{bits} bits a pixel"


def _refuse_shape_in_alpha(picture: Image.Image, path: Path) -> None:
    """Raises `UserError` for a picture of one colour whose alpha differs from pixel to pixel."""
    if picture.mode not in ("LA", "RGBA") and not (picture.mode == "P" and "transparency" in picture.info):
        return
    *colours, alpha = (band.getextrema() for band in picture.convert("RGBA").split())
    if alpha[0] != alpha[1] and all(low == high for low, high in colours):
        raise UserError(
            f"{path} has one colour, and its shape in the alpha channel: save that channel as a grey mask."
        )


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
_FEW_LEVELS = 8  # of grey: with so few each has a meaning, more are soft edges


@dataclass(frozen=True)
class BinaryMask:
    """Values above `threshold` are foreground; pixels with the value `ignore`, if it is given, are ignored.

    `foreground` is the foreground value that `find_threshold` found in some of the masks; each file is compared with
    it. None if the user chose the threshold. With `soft` there are values between 0 and it.
    """

    threshold: int
    ignore: int | None = None
    foreground: int | None = None
    soft: bool = False

    def decode(self, path: Path) -> np.ndarray:
        """uint8 (H, W): 1 foreground, 0 background, 255 ignore.

        Raises `UserError` for coloured masks, for values that contradict the other masks of the data set, for a
        shape in the alpha channel, and, if there is a value to ignore, for a JPEG and a file with one bit a pixel.
        """
        mask = _read_grey(path)
        if mask.one_bit:  # unambiguous: no threshold needed
            if self.ignore is not None and mask.values.any():
                raise UserError(
                    f"{path} has 1 bit a pixel: it is unknown whether its 1 is foreground or dataset.ignore="
                    f"{self.ignore}. Save all masks with 8 bits."
                )
            return mask.values
        values = mask.values
        if mask.lossy and self.ignore is not None:
            raise UserError(
                f"{path} is a JPEG, which blurs dataset.ignore={self.ignore}: save the masks as PNG."
            )
        if self.foreground is not None and not self._is_usual(values):
            self._check(present_values(values), path, lossy=mask.lossy)
        labels = (values > self.threshold).view(np.uint8)
        if self.ignore is not None:
            labels[values == self.ignore] = IGNORE_INDEX
        return labels

    def _is_usual(self, values: np.ndarray) -> bool:
        # Checked without counting every value, so that correct files take little time.
        if self.soft:
            return int(values.max()) > 1 and not (values == 1).any()
        return np.count_nonzero(values) == np.count_nonzero(values == self.foreground)

    def _check(self, present: list[int], path: Path, *, lossy: bool) -> None:
        other = [value for value in present if value not in (0, self.foreground, self.ignore)]
        wrong = other == [1] if self.soft else bool(other)
        if wrong and (not lossy or self.foreground == 1):
            raise UserError(
                f"{path} holds the value {first_of(other)}, but other masks hold 0 and {self.foreground} only: "
                "correct it, or set dataset.threshold."
            )


def find_threshold(pairs: Pairs, ignore: int | None) -> tuple[BinaryMask, tuple[str, ...]]:
    """The decoder for masks of background and one other value, decided from masks spread over the data set; notes.

    Raises `UserError` if they have no foreground or several values, and for unreadable masks. More than eight values,
    and those of JPEGs, are soft edges of masks of 0/255.
    """
    for number in _CHECKED:
        indices = evenly_spaced(len(pairs), number)
        counts, one_bit, lossy = _count_values(pairs, indices, ignore)
        if one_bit or counts[1:].any():
            break
    else:
        raise UserError(
            f"No foreground in {len(indices)} masks of {pairs.masks.folder}: correct them, or set dataset.threshold=0 "
            "for masks of 0/1 or dataset.threshold=127 for masks of 0/255."
        )
    levels = np.flatnonzero(counts).tolist()
    values = [level for level in levels if level]
    if not values:
        return BinaryMask(127, ignore, 255), ()
    if len(values) == 1:
        return BinaryMask(values[0] // 2, ignore, values[0]), ()
    if not lossy and len(levels) <= _FEW_LEVELS:
        raise UserError(_several_levels(pairs, indices, counts))
    if values[-1] <= 127:
        raise UserError(
            f"The masks in {pairs.masks.folder} go up to {values[-1]}, neither 0/1 nor 0/255: set dataset.threshold, "
            "or use dataset=folder for several classes."
        )
    between = counts[1 : values[-1]].sum() / counts.sum()
    note = (
        f"The {len(indices)} masks that were checked hold {len(levels)} values of grey, {between:.1%} of the pixels "
        f"between 0 and {values[-1]}: those above 127 are foreground (dataset.threshold)."
    )
    return BinaryMask(127, ignore, 255, soft=True), () if lossy else (note,)


def _count_values(pairs: Pairs, indices: list[int], ignore: int | None) -> tuple[np.ndarray, bool, bool]:
    """How often the masks hold each value but `ignore`; whether one has foreground of one bit, and one is lossy.

    The values of masks with one bit a pixel are not counted: they go with all others.
    """
    counts, one_bit, lossy = np.zeros(256, np.int64), False, False
    for index in indices:
        mask = _read_grey(pairs.mask_path(index))
        lossy |= mask.lossy
        if mask.one_bit:
            one_bit |= bool(mask.values.any())
        else:
            counts += Image.fromarray(mask.values).histogram()
    if ignore is not None:
        counts[ignore] = 0
    return counts, one_bit, lossy


def _several_levels(pairs: Pairs, indices: list[int], counts: np.ndarray) -> str:
    levels = np.flatnonzero(counts).tolist()
    shares = ", ".join(f"{level} ({counts[level] / counts.sum():.1%})" for level in levels)
    rarest = min(filter(None, levels), key=counts.__getitem__)
    file = next(path for path in map(pairs.mask_path, indices) if (_read_grey(path).values == rarest).any())
    # 1 is foreground beside 255; in 0, 128, 255 the one between is unknown or another class.
    odd = levels[-1] if 1 in levels else levels[-2]
    return (
        f"The masks in {pairs.masks.folder} hold {len(levels)} values: {shares}; {file.name} holds {rarest}. Set "
        f"dataset.ignore={odd} if that is unknown, dataset.threshold=VALUE if all above are foreground, or use "
        "dataset=folder for several classes."
    )


class _Grey(NamedTuple):
    values: np.ndarray  # uint8 (H, W)
    lossy: bool
    one_bit: bool


def _read_grey(path: Path) -> _Grey:
    """The values of a binary mask, 0 and 1 for a file with one bit a pixel."""
    usual = image_io.read_grey_png(path)
    if usual is not None:
        return _Grey(usual, lossy=False, one_bit=False)
    picture = open_picture(path)
    if picture.mode == "1":
        return _Grey(np.array(picture).astype(np.uint8), lossy=False, one_bit=True)
    return _Grey(grey_values(picture, path), is_lossy(picture), one_bit=False)


def grey_values(picture: Image.Image, path: Path) -> np.ndarray:
    """uint8 (H, W), the values in the file: for a palette of greys the greys, for other palettes the indices.

    Alpha is dropped. Raises `UserError` for coloured images, for values above 255, and for a shape in the alpha
    channel.
    """
    _refuse_shape_in_alpha(picture, path)
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
