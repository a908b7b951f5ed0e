"""All colours of reports, leaderboards and figures. To change how they look, change the values here.

Classes are drawn in the colours of the data set (`Classes.palette`) instead. A checkpoint keeps the palette it was
trained with, so a new palette shows in the reports of new runs only.
"""

import colorsys
from collections.abc import Mapping, Sequence
from itertools import chain

from segmentation.types import Colour, hexadecimal

LIGHT = {
    "paper": "#f7f8fa",  # background of the page
    "card": "#ffffff",  # background of tables, charts and images
    "ink": "#171b22",  # text
    "dim": "#5c6573",  # text of less weight
    "line": "#dfe3ea",  # borders and grid lines
    "soft": "#eef1f6",  # empty part of a bar, chosen row
    "accent": "#2f6fed",  # bars, dots, best score
    "accent-ink": "#1d52ba",  # links
    "on-accent": "#ffffff",  # text on strong cells on the diagonal of the confusion matrix
    "off-diagonal": "#d6336c",  # cells beside that diagonal
    "on-off-diagonal": "#ffffff",  # text on strong cells there
    "warn": "#fff4d6",  # background of a note
    "warn-line": "#e5b93c",
}
"""Colours of a page, as CSS variables."""

DARK = {
    "paper": "#0f1217",
    "card": "#181c24",
    "ink": "#e8ecf3",
    "dim": "#98a3b5",
    "line": "#2b313d",
    "soft": "#212733",
    "accent": "#6ea0ff",
    "accent-ink": "#a5c4ff",
    "on-accent": "#0b1220",
    "off-diagonal": "#d6336c",
    "on-off-diagonal": "#ffffff",
    "warn": "#332b14",
    "warn-line": "#a98222",
}
"""The same for readers whose system prefers dark pages."""

BINARY_ERRORS: dict[str, Colour] = {
    "right": (235, 235, 235),
    "false alarm": (230, 140, 0),
    "miss": (0, 114, 210),
}
MULTICLASS_ERRORS: dict[str, Colour] = {"wrong": (233, 61, 130)}
"""Colours of the error pictures, by kind of error; orange and blue differ for colour-blind people, too."""

RELIABILITY_LINE = "#3478c6"
"""The line of the reliability chart, readable on light and dark cards (a contrast of 2.9 is tested).

ROC and precision-recall lines have the colours of their classes: see `line_colours`."""

SPLITS = {"train": "#4477aa", "val": "#cc6677"}
"""The lines of `curves.png`."""

CONFUSION_MAP = "Blues"
"""Matplotlib's colour map of `confusion.png`."""

HEADS = ("#4477aa", "#cc6677", "#228833", "#ccbb44", "#aa3377", "#66ccee", "#777777")
"""Heads in the benchmark's figure, in order of appearance."""

GREY = "#999999"
"""Helping lines in figures: diagonals, and the lines from a name to its point."""


def page_colours() -> str:
    """CSS that defines the variables of `LIGHT` and `DARK`."""
    return f":root {{{_variables(LIGHT)}}}\n@media (prefers-color-scheme: dark) {{ :root {{{_variables(DARK)}}} }}\n"


def _variables(colours: Mapping[str, str]) -> str:
    return "".join(f" --{name}: {colour};" for name, colour in colours.items())


_DARKEST, _LIGHTEST = 0.14, 0.30
"""Relative luminance (WCAG 2.2) of lines: a contrast of about 3 to the light and to the dark page."""

_MIN_DIFFERENCE = 40
"""Colours that differ by less in each of red, green and blue look alike in a thin line."""

_HUES = 24


def line_colours(palette: Sequence[Colour]) -> list[str]:
    """A visible line colour for each class, as #rrggbb.

    This is the colour of the class, made lighter or darker where it would be hard to see or where an earlier class
    looks the same. Where that is not enough, another hue is used. With dozens of classes some colours repeat.
    """
    others = [_with_luminance((index * 0.618034 % 1, 0.5, 0.62), _LIGHTEST) for index in range(_HUES)]
    chosen: list[Colour] = []
    for colour in palette:
        hls = colorsys.rgb_to_hls(*(part / 255 for part in colour))
        own = [_with_luminance(hls, min(max(luminance(colour), _DARKEST), _LIGHTEST))]
        own += [_with_luminance(hls, _DARKEST), _with_luminance(hls, _LIGHTEST)]
        fits = (one for one in chain(own, others) if all(_differ(one, other) for other in chosen))
        chosen.append(next(fits, own[0]))
    return [hexadecimal(colour) for colour in chosen]


def luminance(colour: Colour) -> float:
    """Relative luminance, from 0 (black) to 1 (white), as WCAG 2.2 defines it."""
    red, green, blue = (
        share / 12.92 if (share := part / 255) <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4
        for part in colour
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _with_luminance(hls: tuple[float, float, float], target: float) -> Colour:
    """The colour of this hue and saturation with the target luminance, by bisection over its lightness."""
    hue, _, saturation = hls
    low, high = 0.0, 1.0
    for _ in range(10):
        middle = (low + high) / 2
        red, green, blue = (round(part * 255) for part in colorsys.hls_to_rgb(hue, middle, saturation))
        low, high = (middle, high) if luminance((red, green, blue)) < target else (low, middle)
    return red, green, blue


def _differ(one: Colour, other: Colour) -> bool:
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) >= _MIN_DIFFERENCE
