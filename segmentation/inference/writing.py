"""Answers -> files and pictures that open correctly elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from segmentation.classes import IGNORE_COLOUR, Classes
from segmentation.errors import UserError
from segmentation.pictures import as_rgb, colourise
from segmentation.sample import IGNORE_INDEX

FULL = 65535
"""How 16 bits say a probability of 1."""


def mask_picture(labels_HW: np.ndarray, classes: Classes) -> Image.Image:
    """uint8 labels as people and tools expect them: binary in grey, 0 and 255, else indices with a palette."""
    if classes.binary:
        return Image.fromarray(labels_HW * np.uint8(255))
    picture = Image.fromarray(labels_HW)
    table = np.zeros((256, 3), np.uint8)
    table[: len(classes)] = classes.palette
    table[IGNORE_INDEX] = IGNORE_COLOUR
    picture.putpalette(table.tobytes())
    return picture


def tint(pixels_HWC: np.ndarray, labels_HW: np.ndarray, classes: Classes, alpha: float) -> np.ndarray:
    """uint8 (H, W, 3): the picture under the classes' colours, `alpha` (0..1) of them.

    A background (label 0 of binary data, or the class of that name) is left as it is.
    """
    colours = np.ascontiguousarray(as_rgb(pixels_HWC))
    tinted = cv2.addWeighted(colours, 1 - alpha, colourise(labels_HW, classes), alpha, 0)
    if classes.binary or classes.names[0].lower() == "background":
        cv2.copyTo(colours, (labels_HW == 0).astype(np.uint8), tinted)
    return np.asarray(tinted)


def sixteen_bits(probabilities: np.ndarray) -> np.ndarray:
    """0..1 -> uint16 0..65535, to the nearest."""
    return (probabilities * FULL + 0.5).clip(0, FULL).astype(np.uint16)


def save_mask(path: Path, labels_HW: np.ndarray, classes: Classes) -> None:
    """An 8-bit PNG of `mask_picture`. Raises `UserError` for another ending: JPEG would blur labels."""
    _check_ending(path, ".png")
    with whole(path) as part:
        mask_picture(labels_HW, classes).save(part, "PNG")


def save_overlay(
    path: Path, pixels_HWC: np.ndarray, labels_HW: np.ndarray, classes: Classes, alpha: float
) -> None:
    """The picture of `tint`, in the format of the ending. Raises `UserError` for one that Pillow does not write."""
    save_picture(path, Image.fromarray(tint(pixels_HWC, labels_HW, classes, alpha)))


def save_picture(path: Path, picture: Image.Image) -> None:
    """In the format of the ending. Raises `UserError` for one that Pillow does not write."""
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind not in Image.SAVE:
        raise UserError(f"{path} has no ending that Pillow writes: take .png or .jpg.")
    with whole(path) as part:
        picture.save(part, kind)


def save_probabilities(path: Path, probabilities_HWK: np.ndarray, classes: Classes) -> None:
    """Binary: a 16-bit grey PNG, 65535 for 1. Else .npz with `probabilities` (H, W, K), so too, and `names`.

    Raises `UserError` for another ending.
    """
    values_HWK = sixteen_bits(probabilities_HWK)
    if classes.binary:
        _check_ending(path, ".png")
        with whole(path) as part:
            Image.fromarray(values_HWK[:, :, 0]).save(part, "PNG")
        return
    _check_ending(path, ".npz")
    with whole(path) as part, part.open("wb") as file:
        np.savez_compressed(file, probabilities=values_HWK, names=np.array(classes.names))


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name beside `path` to write under: renamed when all went well, removed when not.

    So no interrupted file is taken for a finished one. Raises `UserError` where the system refuses to write.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise unwritten(path, error.strerror or str(error)) from error


def unwritten(path: Path, cause: str) -> UserError:
    """For raising: a file that could not be written, by its name, and why."""
    return UserError(f"{path} was not written ({cause}): make room, or give another output.")


def _check_ending(path: Path, ending: str) -> None:
    if path.suffix.lower() != ending:
        raise UserError(f"{path} should end in {ending}.")
