"""Values of image bands -> 0..255: which value is black and which is white, for images with more than 8 bits."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from segmentation.errors import UserError

PERCENTILES = (0.5, 99.5)
"""A measured range leaves out this share of the values at either end, because a few glints would darken the rest."""

_VALUES_PER_IMAGE = 2**16
_STRIP = 2**20  # values that are changed at once


@dataclass(frozen=True)
class PixelRange:
    """The values of each band that become 0 and 255; those between are spread evenly, those outside are clipped.

    Values of 8 bits are not changed by it: somebody has chosen their range already. One band's range holds for all.
    Raises `UserError` where a `low` is not below its `high` or a number is not finite.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.low or len(self.low) != len(self.high):
            raise UserError("A pixel range needs a lowest and a highest value for each band.")
        for low, high in zip(self.low, self.high, strict=True):
            if not (np.isfinite([low, high]).all() and low < high):
                raise UserError(
                    f"The pixel range {low:g}..{high:g} is empty: give the lower value first, both finite."
                )

    def to_bytes(self, values_HWC: np.ndarray, name: str) -> np.ndarray:
        """Numbers of any type (H, W, C) -> uint8; nan becomes 0. `name` is the image's, for messages.

        Raises `UserError` for another number of bands.
        """
        bands = values_HWC.shape[2]
        if len(self.low) not in (1, bands):
            raise UserError(
                f"{name} holds {bands} bands, but the range of pixel values is known for {len(self.low)}: "
                "give images with the bands of the training."
            )
        low, high = (np.array(side, np.float32) for side in (self.low, self.high))

        def scaled(part_HWC: np.ndarray) -> np.ndarray:
            scaled_HWC = part_HWC.astype(np.float32)
            scaled_HWC -= low
            scaled_HWC *= 255 / (high - low)
            scaled_HWC += 0.5
            return np.nan_to_num(scaled_HWC, copy=False).clip(0, 255)

        with np.errstate(invalid="ignore", over="ignore"):  # of nan, and of float64
            return _by_strips(scaled, values_HWC)

    def __str__(self) -> str:
        """`1..1890, 3..2011`: the values of each band."""
        return ", ".join(f"{low:g}..{high:g}" for low, high in zip(self.low, self.high, strict=True))

    def to_list(self) -> list[list[float]]:
        """`[[low, high], ...]` of each band, for a checkpoint."""
        return [[low, high] for low, high in zip(self.low, self.high, strict=True)]

    @classmethod
    def from_list(cls, pairs: Any) -> "PixelRange":
        """The inverse of `to_list`; also takes one `[low, high]` for all bands.

        Raises `UserError` for anything else, and where the constructor does.
        """
        try:
            table = np.atleast_2d(np.array(pairs, dtype=float))
            if table.ndim != 2 or table.shape[1] != 2:
                raise ValueError
        except (TypeError, ValueError) as error:
            raise UserError(
                f"data.pixel_range={pairs}: give auto, full, [LOW,HIGH], or such a pair for each band."
            ) from error
        return cls(tuple(table[:, 0].tolist()), tuple(table[:, 1].tolist()))

    @classmethod
    def measured(cls, images: Iterable[np.ndarray]) -> "PixelRange":
        """The `PERCENTILES` of each band over images (H, W, C), or their `drawn_pixels`; nan and infinity are left out.

        Raises `UserError` where images have different numbers of bands.
        """
        drawn = [drawn_pixels(values_HWC) for values_HWC in images]
        if len({values_PC.shape[1] for values_PC in drawn}) != 1:
            raise UserError("The training images have different numbers of bands: give them the same.")
        columns = np.concatenate(drawn).T
        return cls(*zip(*(_spread(band[np.isfinite(band)]) for band in columns), strict=True))


def drawn_pixels(values_HWC: np.ndarray) -> np.ndarray:
    """float64 (P, C): evenly spaced pixels of an image, enough to measure a range by."""
    flat_PC = values_HWC.reshape(-1, values_HWC.shape[-1])
    return flat_PC[:: max(1, len(flat_PC) // _VALUES_PER_IMAGE)].astype(np.float64)


def _spread(values: np.ndarray) -> tuple[float, float]:
    if not len(values) or values.min() == values.max():
        # A band of one value, such as the alpha of opaque images, becomes 0.
        only = float(values[0]) if len(values) else 0.0
        return only, only + max(1.0, abs(only))
    low, high = np.percentile(values, PERCENTILES).tolist()
    # A band that is nearly everywhere the same, such as a rare signal, keeps its whole range.
    return (low, high) if low < high else (float(values.min()), float(values.max()))


def to_bytes(
    values_HWC: np.ndarray, pixel_range: PixelRange | None = None, name: str = "The image"
) -> np.ndarray:
    """Pixels of any type (H, W, C) -> uint8 (H, W, C): by their range, or unsigned 16 bits from 0..65535 where None.

    Raises `UserError` for other types without a range, and for another number of bands than the range has.
    """
    if values_HWC.dtype == np.uint8:
        return values_HWC
    if pixel_range is not None:
        return pixel_range.to_bytes(values_HWC, name)
    if (values_HWC.dtype.kind, values_HWC.dtype.itemsize) != ("u", 2):
        raise UserError(
            f"{name} holds {values_HWC.dtype.name} pixels, whose range is unknown: save it with 8 or 16 bits, "
            "unsigned; or, if the training images are like it, train with data.pixel_range=auto."
        )
    return _by_strips(lambda part_HWC: (part_HWC.astype(np.uint32) + 128) // 257, values_HWC)


def _by_strips(change: Callable[[np.ndarray], np.ndarray], values_HWC: np.ndarray) -> np.ndarray:
    """uint8 (H, W, C): what `change` makes of some rows at a time, because it takes many times as much memory."""
    found_HWC = np.empty(values_HWC.shape, np.uint8)
    rows = max(1, _STRIP // max(1, values_HWC[:1].size))
    for top in range(0, len(values_HWC), rows):
        found_HWC[top : top + rows] = change(values_HWC[top : top + rows])
    return found_HWC
