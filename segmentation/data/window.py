"""A random zoom and a random crop in one: of the picture only what the crop keeps is zoomed."""

from collections.abc import Callable, Sequence
from math import ceil
from random import Random
from typing import NamedTuple

import numpy as np

Resize = Callable[[np.ndarray, tuple[int, int]], np.ndarray]


class Span(NamedTuple):
    """A window along one axis."""

    taken: slice
    """Of the picture's pixels: what the window shows, and the rest of the pixels at its ends."""
    zoomed: int
    """How many pixels these become."""
    kept: slice
    """Of those: what the window shows."""
    filled: slice
    """Of the window's own pixels: where it shows that."""


class Window(NamedTuple):
    """A part of a zoomed picture, `size` (H, W) pixels large."""

    size: tuple[int, int]
    rows: Span
    columns: Span


def draw_window(
    shape: Sequence[int], size: tuple[int, int], scale: tuple[float, float], random: Random
) -> Window:
    """A window of `size` (H, W) on a picture of `shape` (H, W, ...), zoomed by a factor out of `scale` (low, high).

    Every place of the window on the zoomed picture is as likely as any other; a zoomed picture that is smaller than
    the window lies anywhere in it.
    """
    zoom = random.uniform(*scale)
    rows, columns = (
        _draw_span(side, length, zoom, random) for side, length in zip(shape[:2], size, strict=True)
    )
    return Window(size, rows, columns)


def look_through(window: Window, pixels: np.ndarray, resize: Resize, *, fill: int) -> np.ndarray:
    """Pixels (H, W, ...) as the window shows them, zoomed by `resize`; beside them lies `fill`.

    That is what zooming all of them would show, to half a pixel.
    """
    size, rows, columns = window
    shown = resize(pixels[rows.taken, columns.taken], (rows.zoomed, columns.zoomed))[rows.kept, columns.kept]
    if shown.shape[:2] == size:
        return shown
    whole = np.full((*size, *pixels.shape[2:]), fill, pixels.dtype)
    whole[rows.filled, columns.filled] = shown
    return whole


def _draw_span(side: int, length: int, zoom: float, random: Random) -> Span:
    everything = max(1, round(side * zoom))
    if everything <= length:
        left = random.randint(0, length - everything)
        return Span(slice(0, side), everything, slice(0, everything), slice(left, left + everything))
    place = random.randint(0, everything - length)
    factor = everything / side
    start, stop = int(place / factor), min(side, ceil((place + length) / factor))
    zoomed = round((stop - start) * factor)
    before = min(place - round(start * factor), zoomed - length)
    return Span(slice(start, stop), zoomed, slice(before, before + length), slice(0, length))
