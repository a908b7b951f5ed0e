"""Labels as pictures that a person can read: colours, a legend, images side by side."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segmentation.classes import IGNORE_COLOUR, Classes
from segmentation.sample import IGNORE_INDEX

_MARGIN = 8
_PAPER = (255, 255, 255)
_INK = (30, 30, 30)


def colourise(mask_HW: np.ndarray, classes: Classes) -> np.ndarray:
    """uint8 labels -> uint8 (H, W, 3) in the classes' colours; ignore in a colour of its own."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(classes)] = classes.palette
    table[IGNORE_INDEX] = IGNORE_COLOUR
    return table[mask_HW]


def as_rgb(image_HWC: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3): the first three channels, or the first of one or two as grey."""
    return np.repeat(image_HWC[:, :, :1], 3, axis=2) if image_HWC.shape[2] < 3 else image_HWC[:, :, :3]


def side_by_side(
    rows: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], classes: Classes, *, height: int = 192
) -> Image.Image:
    """A page of image | truth | prediction, a row each, with headings above and the class legend below.

    Each row holds an image uint8 (H, W, C), shown `as_rgb`, and two masks uint8 (H, W); all are drawn `height`
    pixels high.
    """
    strips = [
        (
            _scaled(as_rgb(image), height, Image.Resampling.BILINEAR),
            _scaled(colourise(truth, classes), height, Image.Resampling.NEAREST),
            _scaled(colourise(prediction, classes), height, Image.Resampling.NEAREST),
        )
        for image, truth, prediction in rows
    ]
    cell = max(picture.width for strip in strips for picture in strip)
    width = 3 * (cell + _MARGIN) + _MARGIN
    key = legend(classes, width=width)
    font = _font()
    page = Image.new("RGB", (width, 24 + len(strips) * (height + _MARGIN) + key.height), _PAPER)
    pen = ImageDraw.Draw(page)
    for column, heading in enumerate(("image", "truth", "prediction")):
        left = _MARGIN + column * (cell + _MARGIN)
        pen.text((left, 4), heading, _INK, font)
        for row, strip in enumerate(strips):
            page.paste(strip[column], (left, 24 + row * (height + _MARGIN)))
    page.paste(key, (0, page.height - key.height))
    return page


def legend(classes: Classes, *, width: int) -> Image.Image:
    """A strip `width` pixels wide: a coloured square and a name for each class and for ignore, wrapped."""
    font = _font()
    entries = [*zip(classes.names, classes.palette, strict=True), ("ignored", IGNORE_COLOUR)]
    places, left, top = [], _MARGIN, 0
    for name, _ in entries:
        space = 18 + int(font.getlength(name)) + 2 * _MARGIN
        if left + space > width and left > _MARGIN:
            left, top = _MARGIN, top + 20
        places.append((left, top))
        left += space
    strip = Image.new("RGB", (width, top + 24), _PAPER)
    pen = ImageDraw.Draw(strip)
    for (name, colour), (left, top) in zip(entries, places, strict=True):
        pen.rectangle((left, top + 3, left + 12, top + 15), fill=colour, outline=_INK)
        pen.text((left + 18, top + 2), name, _INK, font)
    return strip


def _scaled(picture: np.ndarray, height: int, how: Image.Resampling) -> Image.Image:
    width = max(1, round(picture.shape[1] * height / picture.shape[0]))
    return Image.fromarray(picture).resize((width, height), how)


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=13)
