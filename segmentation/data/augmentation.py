"""Augmentation of image and mask together, with albumentations; no other file imports it.

Masks are resampled by nearest neighbour, and pixels from outside the image are ignored, so that no augmentation
invents a label. Images have 1 to 128 channels and keep their last axis. Zoom and crop are one step
(`windows.Window`): only the part of the image that the crop keeps is resized.
"""

import math
import random
from collections.abc import Callable, Sequence
from functools import partial
from math import ceil
from typing import Any

import cv2
import numpy as np

from segmentation.data.windows import Window, draw_window, random_pixel, zoom_and_crop
from segmentation.errors import UserError
from segmentation.machine import variable
from segmentation.types import IGNORE_INDEX, Sample

with variable("NO_ALBUMENTATIONS_UPDATE", "1"):
    import albumentations as A  # noqa: N812 - the alias of albumentations' documentation
    from albumentations.augmentations.geometric import functional

Transform = Callable[[Sample, int], Sample]

# Close to ImageNet's mean, so that padding disturbs the statistics of a batch little.
_FILL = 116
_MAX_OPENCV_BANDS = 4  # OpenCV resizes at most four bands in one call; albumentations splits images with more
_PADDING = {"border_mode": cv2.BORDER_CONSTANT, "fill": _FILL, "fill_mask": IGNORE_INDEX}


def training_transform(
    *,
    size: tuple[int, int],
    resize: bool,
    scale: Sequence[float] = (1.0, 1.0),
    rotate: float = 0.0,
    flip: float = 0.0,
    vertical_flip: float = 0.0,
    colour: float = 0.0,
    blur: float = 0.0,
    noise: float = 0.0,
    dropout: float = 0.0,
) -> "TrainingTransform":
    """Sample and seed -> sample of `size` (H, W); equal seeds give equal results, in any process.

    With `resize` the whole image is first resized to `size`, otherwise it keeps its own resolution. Then it is
    rotated by up to `rotate` degrees to either side, zoomed by a factor from `scale` (low, high), padded with ignored
    pixels and cropped. `flip`, `vertical_flip`, `colour`, `blur`, `noise` and `dropout` are probabilities 0..1;
    pixels that dropout covers are ignored. `colour` changes brightness, contrast, saturation and hue of RGB images,
    and brightness and contrast of images with another number of channels, in the same way for all channels.

    Raises `UserError` for a probability outside 0..1, a scale that is not 0 < low <= high or a rotation
    outside 0..180.
    """
    _check_probabilities(
        flip=flip, vertical_flip=vertical_flip, colour=colour, blur=blur, noise=noise, dropout=dropout
    )
    if len(scale) != 2 or not 0 < scale[0] <= scale[1] < math.inf:
        raise UserError(
            f"augmentation.scale={list(scale)} is not a zoom range: give [low, high] with 0 < low <= high."
        )
    if not 0 <= rotate <= 180:
        raise UserError(f"augmentation.rotate={rotate} is not within 0..180 degrees.")
    steps: list[A.BasicTransform] = []
    if rotate:
        steps.append(A.Affine(rotate=(-rotate, rotate), p=1.0, **_PADDING))
    if tuple(scale) != (1.0, 1.0) or not resize:  # otherwise it already has this size
        steps.append(_Window(size, (scale[0], scale[1])))
    steps += [
        A.HorizontalFlip(p=flip),
        A.VerticalFlip(p=vertical_flip),
        _Colour((0.7, 1.3), (0.7, 1.3), (0.7, 1.3), (-0.05, 0.05), p=colour),
        A.GaussianBlur(sigma_limit=(0.3, 1.5), p=blur),
        A.GaussNoise(std_range=(0.01, 0.05), p=noise),
        A.CoarseDropout((1, 4), (0.05, 0.2), (0.05, 0.2), fill=_FILL, fill_mask=IGNORE_INDEX, p=dropout),
    ]
    # Rotated by 45 degrees, a square window touches a square of 1.42 times its side.
    reach = (math.sqrt(2) if rotate else 1) / scale[0]
    return TrainingTransform(size, resize, (ceil(size[0] * reach), ceil(size[1] * reach)), steps)


def evaluation_transform(*, size: tuple[int, int], resize: bool) -> Transform:
    """Resizes the image to `size` (H, W), without `resize` keeps it; the mask always keeps its own size."""
    return partial(_evaluated, size=size if resize else None)


def _evaluated(sample: Sample, seed: int, *, size: tuple[int, int] | None) -> Sample:
    return {**sample, "image": resize_image(sample["image"], size)} if size else sample


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The image resized to `size` (H, W), as in the transforms with `resize`; the same array if it has that size.

    Bilinear down to half the size, and area averaging below: bilinear interpolation uses two neighbours and would
    skip pixels there. Averaging takes seven times as long.
    """
    skips = image.shape[0] > 2 * size[0] or image.shape[1] > 2 * size[1]
    return _resize(image, size, cv2.INTER_AREA if skips else cv2.INTER_LINEAR)


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The mask resized to `size` (H, W) by nearest neighbour, as in the training transform with `resize`."""
    # The exact one takes the pixel at the middle, as the image's resize does; the other one that at the upper left.
    return _resize(mask, size, cv2.INTER_NEAREST_EXACT)


def _resize(pixels: np.ndarray, size: tuple[int, int], interpolation: int) -> np.ndarray:
    (height, width), bands = size, pixels.shape[2:]
    if pixels.shape[:2] == (height, width):
        return pixels
    if math.prod(bands) > _MAX_OPENCV_BANDS:
        return functional.resize(pixels, size, interpolation)
    # Without albumentations' wrappers, which take a tenth of a millisecond. OpenCV drops a last axis of length one.
    return cv2.resize(pixels, (width, height), interpolation=interpolation).reshape(height, width, *bands)


class _Window(A.DualTransform):
    """A random zoom and a random crop of `size` in one step: see `draw_window`. Shows a pixel of the class `label`."""

    label: int | None = None

    def __init__(self, size: tuple[int, int], scale: tuple[float, float]) -> None:
        super().__init__(p=1.0)
        self._size = size
        self._scale = scale

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        place = None if self.label is None else random_pixel(data["mask"], self.label, self.random_generator)
        window = draw_window(params["shape"], self._size, self._scale, self.py_random, place)
        return {"window": window}

    def apply(self, img: np.ndarray, window: Window, **params: Any) -> np.ndarray:
        return zoom_and_crop(window, img, resize_image, fill=_FILL)

    def apply_to_mask(self, mask: np.ndarray, window: Window, **params: Any) -> np.ndarray:
        return zoom_and_crop(window, mask, resize_mask, fill=IGNORE_INDEX)


class _Colour(A.ColorJitter):
    """Albumentations' ColorJitter for RGB; other images have no hue, and all their bands get the same curve."""

    def apply(
        self,
        img: np.ndarray,
        brightness: float,
        contrast: float,
        saturation: float,
        hue: float,
        order: list[int],
        **params: Any,
    ) -> np.ndarray:
        if img.shape[2] == 3:
            return super().apply(img, brightness, contrast, saturation, hue, order, **params)
        # As for RGB, brightness scales about black and contrast about the mean.
        middle = img.mean()
        curve = brightness * (middle + contrast * (np.arange(256) - middle))
        return cv2.LUT(img, np.rint(curve).clip(0, 255).astype(np.uint8)).reshape(img.shape)


class TrainingTransform:
    """A resize of the whole image to `size` (H, W) where `resize`, then albumentations' steps, seeded.

    Without `resize`, windows of `size` come from a part of the image of at most `reach` (H, W) pixels.

    Albumentations' own `Compose` would check every sample for errors that ours cannot have, which takes a tenth of
    the loading time.
    """

    def __init__(
        self, size: tuple[int, int], resize: bool, reach: tuple[int, int], steps: list[A.BasicTransform]
    ) -> None:
        self.size = size
        self.reach = reach
        self._resize = resize
        self._steps = [step for step in steps if step.p > 0]

    def __call__(self, sample: Sample, seed: int, label: int | None = None) -> Sample:
        """The sample at `size`; with a `label`, a window of it that shows a pixel of this class, if there is one."""
        image, mask = sample["image"], sample["mask"]
        if self._resize:
            image, mask = resize_image(image, self.size), resize_mask(mask, self.size)
        # One shared stream: if each step had the same seed, flips and colours would be correlated.
        streams = np.random.default_rng(seed), random.Random(seed)
        changed = {"image": image, "mask": mask}
        for step in self._steps:
            step.set_random_state(*streams)
            if isinstance(step, _Window):
                step.label = label
            changed = step(**changed)
        return {"image": changed["image"], "mask": changed["mask"], "name": sample["name"]}


def _check_probabilities(**probabilities: float) -> None:
    for name, value in probabilities.items():
        if not 0 <= value <= 1:
            raise UserError(f"augmentation.{name}={value} is not a probability: give 0 to 1.")
