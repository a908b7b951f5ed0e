"""Windows of images: which part of an image a training sample shows, and how that part is read.

An epoch shows windows in proportion to the area of each image. Of an image much larger than a window only a part is
read, where the samples can do that (`Windowed`): around a random place, or around a pixel of a class that is wanted.
Augmentation then rotates, zooms and crops this part.
"""

from collections.abc import Callable, Sequence
from math import ceil
from random import Random
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from segmentation.data.dataset import Samples
from segmentation.types import Sample

_TRIED = 256  # pixels at which a class is looked for before the whole mask is searched

Resize = Callable[[np.ndarray, tuple[int, int]], np.ndarray]
Place = tuple[int, int]


class Span(NamedTuple):
    """A window along one axis."""

    taken: slice
    """The pixels of the image that are resized: those in the window, in whole pixels."""
    zoomed: int
    """The number of pixels after the resize."""
    kept: slice
    """The resized pixels that are in the window."""
    filled: slice
    """The pixels of the window that receive them; the others are padding."""


class Window(NamedTuple):
    """A crop of `size` (H, W) from the zoomed image."""

    size: tuple[int, int]
    rows: Span
    columns: Span


def draw_window(
    shape: Sequence[int],
    size: tuple[int, int],
    scale: tuple[float, float],
    random: Random,
    place: Place | None = None,
) -> Window:
    """A random window of `size` (H, W) on an image of `shape` (H, W, ...), zoomed by a factor from `scale` (low, high).

    All positions of the window on the zoomed image are equally likely, of those that show the pixel `place` (row,
    column) if one is given. A zoomed image that is smaller than the window is put at a random position in it.
    """
    zoom = random.uniform(*scale)
    shown = (None, None) if place is None else place
    rows, columns = (
        _draw_span(side, length, zoom, random, pixel)
        for side, length, pixel in zip(shape[:2], size, shown, strict=True)
    )
    return Window(size, rows, columns)


def zoom_and_crop(window: Window, pixels: np.ndarray, resize: Resize, *, fill: int) -> np.ndarray:
    """The part of the pixels (H, W, ...) in the window, zoomed by `resize` and padded with `fill`.

    Equal to zooming the whole image and then cropping it, up to a shift of half a pixel.
    """
    size, rows, columns = window
    shown = resize(pixels[rows.taken, columns.taken], (rows.zoomed, columns.zoomed))[rows.kept, columns.kept]
    if shown.shape[:2] == size:
        return shown
    whole = np.full((*size, *pixels.shape[2:]), fill, pixels.dtype)
    whole[rows.filled, columns.filled] = shown
    return whole


def _draw_span(side: int, length: int, zoom: float, random: Random, pixel: int | None) -> Span:
    everything = max(1, round(side * zoom))
    if everything <= length:
        left = random.randint(0, length - everything)
        return Span(slice(0, side), everything, slice(0, everything), slice(left, left + everything))
    lowest, highest = 0, everything - length
    if pixel is not None:
        shown = int((pixel + 0.5) * everything / side)
        lowest, highest = max(lowest, shown - length + 1), min(highest, shown)
    offset = random.randint(lowest, highest)
    factor = everything / side
    start, stop = int(offset / factor), min(side, ceil((offset + length) / factor))
    zoomed = round((stop - start) * factor)
    before = min(offset - round(start * factor), zoomed - length)
    return Span(slice(start, stop), zoomed, slice(before, before + length), slice(0, length))


@runtime_checkable
class Windowed(Protocol):
    """Samples of which a part can be read."""

    def size(self, index: int, /) -> tuple[int, int]:
        """(H, W) of the image."""
        ...

    def window(self, index: int, rows: slice, columns: slice, /) -> Sample:
        """The sample's pixels in these rows and columns."""
        ...

    def mask(self, index: int, /) -> np.ndarray:
        """The whole mask, uint8 (H, W)."""
        ...


def read_part(
    samples: Samples, index: int, reach: tuple[int, int], size: tuple[int, int], seed: int, label: int | None
) -> Sample:
    """The sample, or of a larger image a random part of up to `reach` (H, W) pixels.

    A window of `size` that is later cropped from the part can lie anywhere on the image, about equally likely. With a
    `label` the part is around a random pixel of that class, if the mask holds one.
    """
    if not isinstance(samples, Windowed):
        return samples[index]
    sides = samples.size(index)
    if sides[0] <= reach[0] and sides[1] <= reach[1]:
        return samples[index]
    random = np.random.default_rng((seed, 1))  # the augmentation draws from (seed,)
    place = None if label is None else random_pixel(samples.mask(index), label, random)
    pixels = place or (None, None)
    rows, columns = (
        _draw_part(side, length, window, random, pixel)
        for side, length, window, pixel in zip(sides, reach, size, pixels, strict=True)
    )
    return samples.window(index, rows, columns)


def random_pixel(mask: np.ndarray, label: int, random: np.random.Generator) -> Place | None:
    """(row, column) of a random pixel of a class in a mask (H, W), all alike; None if it holds none."""
    # A frequent class is met by trying, without a look at each of millions of pixels.
    tried = random.integers(mask.size, size=_TRIED)
    met = tried[mask.reshape(-1)[tried] == label] if mask.flags.c_contiguous else tried[:0]
    if not len(met):
        found = np.flatnonzero(mask == label)
        if not len(found):
            return None
        met = found[random.integers(len(found), size=1)]
    row, column = divmod(int(met[0]), mask.shape[1])
    return row, column


def _draw_part(side: int, length: int, window: int, random: np.random.Generator, pixel: int | None) -> slice:
    """Up to `length` pixels of `side`; they may begin outside, so that windows at the border are not rarer."""
    if side <= length:
        return slice(0, side)
    slack = length - min(window, length)
    low, high = -slack, side - length + slack
    if pixel is not None:  # in the middle, from which a rotation does not turn it away
        middle = pixel - length // 2
        low, high = max(low, middle - window // 2 + 1), min(high, middle + window // 2)
    start = int(random.integers(low, max(low, high) + 1))
    return slice(max(0, start), min(side, start + length))
