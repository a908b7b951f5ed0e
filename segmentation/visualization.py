"""Masks in colours, a legend of the classes, and images side by side."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segmentation.types import IGNORE_COLOUR, IGNORE_INDEX, Classes, Sample

_MARGIN = 8
_LINE = 20
_BACKGROUND = (255, 255, 255)
_TEXT_COLOUR = (30, 30, 30)


def colour_table(classes: Classes) -> np.ndarray:
    """uint8 (256, 3): the colour of each label, `IGNORE_COLOUR` for ignored pixels."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(classes)] = classes.palette
    table[IGNORE_INDEX] = IGNORE_COLOUR
    return table


def colourise(mask_HW: np.ndarray, classes: Classes) -> np.ndarray:
    """uint8 labels -> uint8 (H, W, 3) in the colours of `colour_table`."""
    # Equal to `table[mask_HW]` and fifteen times as fast, which matters for the frames of videos.
    return cv2.applyColorMap(mask_HW, colour_table(classes)[:, None])


def as_rgb(image_HWC: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3): the first three channels; of images with one or two channels the first, as grey."""
    return np.repeat(image_HWC[:, :, :1], 3, axis=2) if image_HWC.shape[2] < 3 else image_HWC[:, :, :3]


def side_by_side(
    rows: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
    classes: Classes,
    *,
    height: int = 288,
    captions: Sequence[str] = (),
    split: str = "",
) -> Image.Image:
    """An `image_grid` with a row per sample: image uint8 (H, W, C), truth uint8 (H, W), prediction uint8 (H, W).

    `captions` has a line to write under each row, `split` the name of the split that the samples are from.
    """
    headings = (f"image, {split} split" if split else "image", "truth", "prediction")
    return image_grid(rows, headings, classes, height=height, captions=captions)


def augmented(
    samples: Sequence[Sample],
    transform: Callable[[Sample, int], Sample],
    classes: Classes,
    *,
    draws: int = 4,
    height: int = 128,
) -> Image.Image:
    """An `image_grid` of each sample, first unchanged and then transformed with the seeds 0 to `draws` - 1.

    Each sample has two rows: the images, and below them their masks.
    """
    rows = []
    for sample in samples:
        shown = [sample, *(transform(sample, seed) for seed in range(draws))]
        rows += [[each["image"] for each in shown], [each["mask"] for each in shown]]
    headings = ["original", *(f"draw {number}" for number in range(1, draws + 1))]
    return image_grid(rows, headings, classes, height=height)


def image_grid(
    rows: Sequence[Sequence[np.ndarray]],
    headings: Sequence[str],
    classes: Classes,
    *,
    height: int,
    captions: Sequence[str] = (),
) -> Image.Image:
    """A figure of images in rows, with headings above the columns and a legend of the classes that occur below.

    Images uint8 (H, W, C) are shown `as_rgb`, masks uint8 (H, W) in the colours of their classes, all with a
    height of `height` pixels. `captions` has a line to write under each row.
    """
    strips = [[_cell(picture, classes, height) for picture in row] for row in rows]
    cell = max(picture.width for strip in strips for picture in strip)
    width = len(headings) * (cell + _MARGIN) + _MARGIN
    masks = [picture for row in rows for picture in row if picture.ndim == 2]
    labels = sorted({label for mask_HW in masks for label in np.unique(mask_HW).tolist()})
    key = legend(classes, width=width, labels=labels)
    step = height + _MARGIN + (_LINE if captions else 0)
    font = _font()
    page = Image.new("RGB", (width, 24 + len(strips) * step + key.height), _BACKGROUND)
    pen = ImageDraw.Draw(page)
    for column, heading in enumerate(headings):
        left = _MARGIN + column * (cell + _MARGIN)
        pen.text((left, 4), heading, _TEXT_COLOUR, font)
        for row, strip in enumerate(strips):
            page.paste(strip[column], (left, 24 + row * step))
    for row, caption in enumerate(captions):
        pen.text((_MARGIN, 24 + row * step + height + 2), caption, _TEXT_COLOUR, font)
    page.paste(key, (0, page.height - key.height))
    return page


def contact_sheet(
    cells: Sequence[Sequence[np.ndarray]], captions: Sequence[str], *, columns: int = 3, height: int = 180
) -> Image.Image:
    """Cells of pictures side by side, uint8 (H, W, C), so many cells in a line, each with its caption below."""
    strips = [
        [_scaled(as_rgb(picture), height, Image.Resampling.BILINEAR) for picture in cell] for cell in cells
    ]
    width = max(sum(picture.width for picture in strip) for strip in strips)
    lines = -(-len(strips) // columns)
    step = height + _LINE + _MARGIN
    columns = min(columns, len(strips))
    page = Image.new("RGB", (columns * (width + _MARGIN) + _MARGIN, lines * step + _MARGIN), _BACKGROUND)
    pen, font = ImageDraw.Draw(page), _font()
    for number, (strip, caption) in enumerate(zip(strips, captions, strict=True)):
        left, top = _MARGIN + number % columns * (width + _MARGIN), _MARGIN + number // columns * step
        pen.text((left, top + height + 2), _shortened(caption, font, width), _TEXT_COLOUR, font)
        for picture in strip:
            page.paste(picture, (left, top))
            left += picture.width
    return page


def heated(image_HWC: np.ndarray, share_HW: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3): the image in grey, and over it a share of 0..1, from black over purple to yellow."""
    grey_HW = as_rgb(image_HWC).mean(axis=2).astype(np.uint8)
    heat_HW3 = cv2.applyColorMap((share_HW * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[:, :, ::-1]
    return cv2.addWeighted(np.repeat(grey_HW[:, :, None], 3, axis=2), 0.4, heat_HW3, 0.8, 0)


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The text, or as much of its beginning as fits into `width` pixels."""
    while font.getlength(text) > width and text != "...":
        text = f"{text.removesuffix('...')[:-1]}..."
    return text


def legend(classes: Classes, *, width: int, labels: Sequence[int] | None = None) -> Image.Image:
    """A legend `width` pixels wide: a coloured square and a name for each of `labels`, in wrapped lines.

    255 is ignore. Without `labels` it has all classes, and ignore.
    """
    font = _font()
    names = {**dict(enumerate(classes.names)), IGNORE_INDEX: "ignored"}
    colours = {**dict(enumerate(classes.palette)), IGNORE_INDEX: IGNORE_COLOUR}
    entries = [(names[label], colours[label]) for label in (names if labels is None else labels)]
    positions, left, top = [], _MARGIN, 0
    for name, _ in entries:
        space = 18 + int(font.getlength(name)) + 2 * _MARGIN
        if left + space > width and left > _MARGIN:
            left, top = _MARGIN, top + _LINE
        positions.append((left, top))
        left += space
    strip = Image.new("RGB", (width, top + 24), _BACKGROUND)
    pen = ImageDraw.Draw(strip)
    for (name, colour), (left, top) in zip(entries, positions, strict=True):
        pen.rectangle((left, top + 3, left + 12, top + 15), fill=colour, outline=_TEXT_COLOUR)
        pen.text((left + 18, top + 2), name, _TEXT_COLOUR, font)
    return strip


def with_legend(pictures_NHW3: np.ndarray, classes: Classes) -> np.ndarray:
    """Pictures uint8 (N, H, W, 3) with a legend of all classes below each."""
    count, _, width, _ = pictures_NHW3.shape
    key_HW3 = np.asarray(legend(classes, width=width, labels=range(len(classes))))
    return np.concatenate([pictures_NHW3, np.broadcast_to(key_HW3, (count, *key_HW3.shape))], axis=1)


def _cell(picture: np.ndarray, classes: Classes, height: int) -> Image.Image:
    if picture.ndim == 2:
        return _scaled(colourise(picture, classes), height, Image.Resampling.NEAREST)
    return _scaled(as_rgb(picture), height, Image.Resampling.BILINEAR)


def _scaled(picture: np.ndarray, height: int, how: Image.Resampling) -> Image.Image:
    width = max(1, round(picture.shape[1] * height / picture.shape[0]))
    return Image.fromarray(picture).resize((width, height), how)


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=13)
