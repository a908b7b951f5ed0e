"""Mask files of one class against the rest -> 0, 1 and 255 (ignore)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops

from segmentation.data import png
from segmentation.data.checks import LOOKS, spread
from segmentation.data.files import Pairs
from segmentation.data.masks import is_lossy
from segmentation.data.opening import WIDE_MODES, open_picture, present_values, read_integers
from segmentation.errors import UserError
from segmentation.sample import IGNORE_INDEX

_COLOUR_NOISE = 32  # channels of a grey JPEG that was saved in colour differ by less
_MANY_LOOKS = 512


@dataclass(frozen=True)
class BinaryMask:
    """Values above `threshold` are foreground; the value `ignore`, if any, counts nowhere.

    `foreground` is the value that the data set's masks hold there, 1 or 255, where that was found out from
    some of them: each file is held against it. None where the user chose the threshold.
    """

    threshold: int
    ignore: int | None = None
    foreground: int | None = None

    def decode(self, path: Path) -> np.ndarray:
        """uint8 (H, W): 1 foreground, 0 background, 255 ignore.

        Raises `UserError` for coloured masks, for values that contradict the other masks of the data set,
        and for a JPEG where a value is to be ignored.
        """
        values, lossy = png.read(path), False
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
        # Told without counting every value: files that are right take no longer look.
        if self.ignore is not None:
            return False
        high = int(values.max())
        return high <= 1 if self.foreground == 1 else high > 1 and not (values == 1).any()

    def _check(self, found: set[int], path: Path, *, lossy: bool) -> None:
        high = max(found, default=0)
        if not lossy and {1, 255} <= found <= {0, 1, 255}:
            raise UserError(
                f"{path} holds both 1 and 255: give dataset.ignore=255 if that is no label, "
                "else dataset.threshold."
            )
        if self.foreground == 1 and high > 1:
            raise UserError(
                f"{path} holds the value {high}, but other masks hold 0 and 1 only: mend it, "
                "or give dataset.threshold."
            )
        if self.foreground == 255 and high == 1 and not lossy:
            raise UserError(
                f"{path} holds 0 and 1 only, but other masks go up to 255: mend it, "
                "or give dataset.threshold."
            )


def find_threshold(pairs: Pairs, ignore: int | None) -> BinaryMask:
    """Masks of 0/1 or of 0/255? Decided once, from masks spread over the data set.

    Raises `UserError` where they hold no foreground or are neither, and for masks that cannot be read.
    """
    high, looked = 0, 0
    for looks in (LOOKS, _MANY_LOOKS):  # the foreground may be rare
        if not high:
            places = spread(len(pairs), looks)
            high, looked = max(_brightest(pairs.mask_path(place), ignore) for place in places), len(places)
    if not high:
        raise UserError(
            f"No foreground in {looked} masks of {pairs.masks}: mend them, or give dataset.threshold=0 "
            "for masks of 0/1, 127 for 0/255."
        )
    if 1 < high <= 127:
        raise UserError(
            f"The masks in {pairs.masks} go up to {high}, neither 0/1 nor 0/255: give dataset.threshold, "
            "or use dataset=folder for several classes."
        )
    return BinaryMask(0, ignore, 1) if high == 1 else BinaryMask(127, ignore, 255)


def grey_values(picture: Image.Image, path: Path) -> np.ndarray:
    """uint8 (H, W) as the file holds them: palettes of greys by grey, others by index; alpha is dropped.

    Raises `UserError` for coloured pictures and for values beyond 8 bits.
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
        picture.info.pop("transparency", None)  # Pillow would warn of it
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
