"""Masks of two values -> background and foreground, and the threshold between them."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops

from segmentation.data import image_io
from segmentation.data.files import Listing, evenly_spaced, first_of
from segmentation.data.image_io import WIDE_MODES, open_picture, present_values, read_integers
from segmentation.data.masks import is_lossy, refuse_shape_in_alpha
from segmentation.errors import UserError, refuse
from segmentation.types import IGNORE_INDEX

_COLOUR_NOISE = 32  # the channels of a grey image differ by less after it was saved as a colour JPEG
# Masks checked to find the threshold, first 16 and then, if these have no foreground, 512.
_CHECKED = (16, 512)
_FEW_EDGES = 0.05  # of the pixels that are not black: those between the levels of a JPEG
_MOST_EDGES = 0.5  # more are no edges, but probabilities or numbers of objects
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
                    f"{self.ignore}. Save all masks with 8 bits.",
                    kind="mask-values",
                )
            return mask.values
        values = mask.values
        if mask.lossy and self.ignore is not None:
            raise UserError(
                f"{path} is a JPEG, which blurs dataset.ignore={self.ignore}: save the masks as PNG.",
                kind="lossy-mask",
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
        # Soft edges may have any value, but masks of 0/1 are not those of 0/255.
        wrong = other == [1] and self.foreground not in present if self.soft else bool(other)
        if wrong and (not lossy or self.foreground == 1):
            raise UserError(
                f"{path} holds the value {first_of(other)}, but other masks hold 0 and {self.foreground} only: "
                "correct it, or set dataset.threshold.",
                kind="mask-values",
                values=other,
            )


def check_threshold(threshold: int) -> None:
    """Raises `UserError` for a threshold outside 0..254."""
    if not 0 <= threshold <= 254:
        raise UserError(
            f"dataset.threshold={threshold} is not within 0..254: foreground are the values above it."
        )


def find_threshold(masks: Listing, ignore: int | None) -> tuple[BinaryMask, tuple[str, ...]]:
    """The decoder for masks of background and one other value, decided from masks spread over the data set; notes.

    Raises `UserError` if they have no foreground or several values, and for unreadable masks. More than eight values,
    and those of JPEGs, are soft edges of masks of 0/255.
    """
    for number in _CHECKED:
        indices = evenly_spaced(len(masks), number)
        counts, one_bit, lossy = _count_values(masks, indices, ignore)
        if one_bit or counts[1:].any():
            break
    else:
        raise UserError(
            f"No foreground in {len(indices)} masks of {masks.folder}: correct them, or set dataset.threshold=0 "
            "for masks of 0/1 or dataset.threshold=127 for masks of 0/255.",
            kind="mask-values",
        )
    levels = np.flatnonzero(counts).tolist()
    values = [level for level in levels if level]
    if not values:
        return BinaryMask(127, ignore, 255), ()
    if len(values) == 1:
        return BinaryMask(values[0] // 2, ignore, values[0]), ()
    if not lossy and len(levels) <= _FEW_LEVELS:
        raise _several_levels(masks, indices, counts)
    if values[-1] <= 127:
        raise UserError(
            f"The masks in {masks.folder} go up to {values[-1]}, neither 0/1 nor 0/255: set dataset.threshold, "
            "or use dataset=folder for several classes.",
            kind="mask-values",
        )
    between = counts[_COLOUR_NOISE:-_COLOUR_NOISE].sum() / counts[_COLOUR_NOISE:].sum()
    found = (
        f"The {len(indices)} masks that were checked hold {len(levels)} values of grey, and {between:.1%} of the "
        "pixels that are not black are not white"
    )
    if between > _MOST_EDGES:
        raise UserError(
            f"{found}: set dataset.threshold, or use dataset=folder for several classes.", kind="mask-values"
        )
    note = f"{found}: those above 127 are foreground (dataset.threshold)."
    return BinaryMask(127, ignore, 255, soft=True), (note,) if between > _FEW_EDGES or not lossy else ()


def _count_values(masks: Listing, indices: list[int], ignore: int | None) -> tuple[np.ndarray, bool, bool]:
    """How often the masks hold each value but `ignore`; whether one has foreground of one bit, and one is lossy.

    The values of masks with one bit a pixel are not counted: they go with all others.
    """
    counts, one_bit, lossy = np.zeros(256, np.int64), False, False
    errors = []
    for index in indices:
        try:
            mask = _read_grey(masks.path(index))
        except UserError as error:
            errors.append(error)
            refuse(error)
            continue
        lossy |= mask.lossy
        if mask.one_bit:
            one_bit |= bool(mask.values.any())
        else:
            counts += Image.fromarray(mask.values).histogram()
    if len(errors) == len(indices):
        raise errors[0]
    if ignore is not None:
        counts[ignore] = 0
    return counts, one_bit, lossy


def _several_levels(masks: Listing, indices: list[int], counts: np.ndarray) -> UserError:
    levels = np.flatnonzero(counts).tolist()
    shares = ", ".join(f"{level} ({counts[level] / counts.sum():.1%})" for level in levels)
    rarest = min(filter(None, levels), key=counts.__getitem__)
    file = next(path for path in map(masks.path, indices) if (_read_grey(path).values == rarest).any())
    # 1 is foreground beside 255; in 0, 128, 255 the one between is unknown or another class.
    odd = levels[-1] if 1 in levels else levels[-2]
    return UserError(
        f"The masks in {masks.folder} hold {len(levels)} values: {shares}; {file.name} holds {rarest}. Set "
        f"dataset.ignore={odd} if that is unknown, dataset.threshold=VALUE if all above are foreground, or use "
        "dataset=folder for several classes.",
        kind="mask-values",
        names=[str(file)],
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
    refuse_shape_in_alpha(picture, path)
    if picture.mode in WIDE_MODES:
        values = read_integers(picture, path)
        if values.max() > 255:
            raise UserError(
                f"{path} holds the value {values.max()}: save the mask with 8 bits.",
                kind="mask-values",
                names=[str(path)],
            )
        return values.astype(np.uint8)
    if picture.mode == "P":
        indices = np.array(picture)
        colours = np.array(picture.getpalette("RGB")).reshape(-1, 3)
        used = present_values(indices)
        if used[-1] >= len(colours):
            return indices
        if np.ptp(colours[used], axis=1).any():
            black = [index for index in used if not colours[index].any()]
            if black and used[0] == 0 and black[0] != 0:
                raise UserError(
                    f"{path} has black at another place of its palette than the first: save the mask as grey, 0/255.",
                    kind="mask-colours",
                )
            return indices
        picture.info.pop("transparency", None)  # Pillow would warn about it
    elif picture.mode in ("RGB", "RGBA"):
        red, green, blue = picture.split()[:3]
        pairs = ((red, green), (green, blue), (red, blue))
        if max(np.asarray(ImageChops.difference(*pair)).max() for pair in pairs) > _COLOUR_NOISE:
            raise UserError(
                f"{path} is coloured, but binary masks are grey: save it as 0/255, "
                "or use dataset=folder with the colours as classes.",
                kind="mask-colours",
            )
    elif picture.mode not in ("L", "LA"):
        raise UserError(f"{path} has mode {picture.mode}: save the mask as grey PNG.", kind="mask-colours")
    return np.array(picture.convert("L"))
