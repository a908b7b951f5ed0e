"""A random zoom and a random crop in one: of the picture only what the crop keeps is zoomed."""

from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

import numpy as np

Resize = Callable[[np.ndarray, tuple[int, int]], np.ndarray]


class Span(NamedTuple):
    """A window along one axis: `taken` pixels of a picture from `start` on become `filled` of its own from `at` on."""

    start: int
    taken: int
    at: int
    filled: int
    length: int
    """Pixels of the window."""


class Window(NamedTuple):
    """What is seen of a picture, and where it comes to lie."""

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
    return Window(
        *(_draw_span(side, length, zoom, random) for side, length in zip(shape[:2], size, strict=True))
    )


def look_through(window: Window, pixels: np.ndarray, resize: Resize, *, fill: int) -> np.ndarray:
    """Pixels (H, W, ...) as the window shows them, brought there by `resize`; beside them lies `fill`."""
    rows, columns = window
    taken = pixels[rows.start : rows.start + rows.taken, columns.start : columns.start + columns.taken]
    seen = resize(taken, (rows.filled, columns.filled))
    if (rows.filled, columns.filled) == (rows.length, columns.length):
        return seen
    whole = np.full((rows.length, columns.length, *pixels.shape[2:]), fill, pixels.dtype)
    whole[rows.at : rows.at + rows.filled, columns.at : columns.at + columns.filled] = seen
    return whole


def _draw_span(side: int, length: int, zoom: float, random: Random) -> Span:
    filled = min(length, max(1, round(side * zoom)))
    # Rounded to whole pixels: the zoom of an axis is off by one in as many as are taken.
    taken = side if filled < length else min(side, max(1, round(length / zoom)))
    return Span(random.randint(0, side - taken), taken, random.randint(0, length - filled), filled, length)
