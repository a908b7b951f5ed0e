"""Colours for the lines of charts, on white paper and on a dark page."""

import colorsys
from collections.abc import Sequence
from itertools import chain

from segmentation.classes import Colour, hexadecimal

MEASURED = "#3478c6"
"""A line that belongs to no class."""

_DARKEST, _LIGHTEST = 0.14, 0.30
"""Relative luminance (WCAG 2.2): a contrast of 3 to white, and to the dark page."""

_APART = 40
"""Two colours that differ by less in each of red, green and blue look alike in a thin line."""

_HUES = 24


def line_colours(palette: Sequence[Colour]) -> list[str]:
    """For each class a colour that can be seen, #rrggbb.

    It is the class's own, made lighter or darker where it must be, or where an earlier class looks like it; where that
    does not help, one of another hue. With dozens of classes some are alike.
    """
    others = [_bright((index * 0.618034 % 1, 0.5, 0.62), _LIGHTEST) for index in range(_HUES)]
    chosen: list[Colour] = []
    for colour in palette:
        hls = colorsys.rgb_to_hls(*(part / 255 for part in colour))
        own = [_bright(hls, min(max(luminance(colour), _DARKEST), _LIGHTEST))]
        own += [_bright(hls, _DARKEST), _bright(hls, _LIGHTEST)]
        fits = (one for one in chain(own, others) if all(_differ(one, other) for other in chosen))
        chosen.append(next(fits, own[0]))
    return [hexadecimal(colour) for colour in chosen]


def luminance(colour: Colour) -> float:
    """Relative luminance, 0 (black) to 1 (white), as WCAG 2.2 defines it."""
    red, green, blue = (
        share / 12.92 if (share := part / 255) <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4
        for part in colour
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _bright(hls: tuple[float, float, float], wanted: float) -> Colour:
    """The colour of this hue and saturation with the luminance that is wanted, by bisection of its lightness."""
    hue, _, saturation = hls
    low, high = 0.0, 1.0
    for _ in range(10):
        middle = (low + high) / 2
        red, green, blue = (round(part * 255) for part in colorsys.hls_to_rgb(hue, middle, saturation))
        low, high = (middle, high) if luminance((red, green, blue)) < wanted else (low, middle)
    return red, green, blue


def _differ(one: Colour, other: Colour) -> bool:
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) >= _APART
