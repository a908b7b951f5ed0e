"""The built-in data: shapes on a textured background, generated from a seed, so that all runs without a download.

Classes differ only in outline: they have the same colours, textures and areas. Later shapes cover earlier ones, the
background has the same textures as the shapes, and noise is added. So a shifted mask, a wrong loss or a broken
evaluation shows in the scores. Bands beyond red, green and blue show where a shape is, but not its class.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from segmentation.data.dataset import Fingerprint, SegmentationDataset
from segmentation.errors import UserError
from segmentation.types import Classes, Sample

NAMES = ("background", "disc", "triangle", "cross")
_SIZES = (48, 4096)  # shapes are too coarse below, and take gigabytes above
_MOST = 1_000_000
PALETTE = ((40, 44, 52), (230, 80, 70), (250, 190, 60), (70, 160, 240))


def _outline(label: int, centre: np.ndarray, radius: float, angle: float) -> np.ndarray:
    """The corners (N, 2) of a shape of class `label`, rotated by `angle` radians."""
    if label == 3:
        arm = np.array([(1, 0.35), (0.35, 0.35), (0.35, 1)])
        quarters = [
            arm @ np.array([[cos, sin], [-sin, cos]]) for cos, sin in ((1, 0), (0, 1), (-1, 0), (0, -1))
        ]
        corners = np.concatenate(quarters)
    else:
        turns = np.linspace(0, 2 * np.pi, 48 if label == 1 else 3, endpoint=False)
        corners = np.stack((np.cos(turns), np.sin(turns)), axis=1)
    # Equal areas, so that the classes do not differ in size.
    radius *= {1: 1.0, 2: 1.5, 3: 1.15}[label]
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return (centre + radius * corners @ turn).round().astype(np.int32)


def _draw_circle(
    random: np.random.Generator, taken: list[tuple[np.ndarray, float]]
) -> tuple[np.ndarray, float]:
    """A centre and a radius, as shares of the image side. It may overlap the `taken` ones, but rarely covers one."""
    for _ in range(20):
        centre, radius = random.uniform(0.2, 0.8, 2), random.uniform(0.18, 0.27)
        if all(np.linalg.norm(centre - other) > 0.85 * (radius + reach) for other, reach in taken):
            break
    return centre, radius


def _grey(random: np.random.Generator) -> np.ndarray:
    return random.uniform(70, 180) + random.uniform(-12, 12, 3).astype(np.float32)


def _vivid(random: np.random.Generator) -> np.ndarray:
    while True:
        colour = random.uniform(20, 235, 3).astype(np.float32)
        if np.ptp(colour) > 110:
            return colour


def _texture(random: np.random.Generator, colour: np.ndarray, size: int) -> np.ndarray:
    """The colour, with any number C of bands, plus blurred blotches and stripes: float32 (H, W, C), about 0..255."""
    blotches = 16 * random.standard_normal((size // 12, size // 12, len(colour)), np.float32)
    rows, columns = (axis.astype(np.float32) for axis in np.ogrid[:size, :size])
    direction, pitch = random.uniform(0, np.pi), 2 * np.pi / random.uniform(4, 16)
    across = np.array([np.cos(direction) * pitch, np.sin(direction) * pitch], np.float32)
    stripes = np.sin(rows * across[0] + columns * across[1])
    soft = cv2.resize(blotches, (size, size), interpolation=cv2.INTER_LINEAR).reshape(size, size, -1)
    return colour + soft + np.float32(random.uniform(0, 14)) * stripes[..., None]


def _more_bands(random: np.random.Generator, shape_HW: np.ndarray, count: int) -> np.ndarray:
    """float32 (H, W, `count`): bright shapes on a dark background, both with texture and noise."""
    size = len(shape_HW)
    dark, bright = (random.uniform(*levels, count).astype(np.float32) for levels in ((30, 90), (150, 220)))
    bands = np.where(shape_HW[:, :, None], _texture(random, bright, size), _texture(random, dark, size))
    return bands + 8 * random.standard_normal(bands.shape, np.float32)


@dataclass(frozen=True)
class Shapes:
    """`length` images of `size` x `size` pixels; the same seeds in `stream` give the same images.

    With 3 or more `channels` the first three are red, green and blue; with 1 or 2 the first is the grey of these
    colours. Further channels are `_more_bands`.
    """

    length: int
    size: int
    stream: tuple[int, ...]
    channels: int = 3
    only: int | None = None  # the one class that is foreground in the binary variant

    @property
    def names(self) -> list[str]:
        """The index of each image, as five digits."""
        return [f"{index:05d}" for index in range(self.length)]

    def fingerprint(self) -> Fingerprint:
        """The options, which determine all images."""
        return Fingerprint(repr(self), "")

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.length:
            raise IndexError(index)
        random = np.random.default_rng((*self.stream, index))
        image = _texture(random, _grey(random), self.size)
        mask = np.zeros((self.size, self.size), np.uint8)
        taken: list[tuple[np.ndarray, float]] = []
        for label in random.integers(1, len(NAMES), random.integers(2, 4)):
            centre, radius = _draw_circle(random, taken)
            taken.append((centre, radius))
            outline = _outline(
                int(label), centre * self.size, radius * self.size, random.uniform(0, 2 * np.pi)
            )
            inside = cv2.fillPoly(np.zeros_like(mask), [outline], 1).astype(bool)
            image[inside] = _texture(random, _vivid(random), self.size)[inside]
            mask[inside] = label
        image += 8 * random.standard_normal(image.shape, np.float32)
        if self.channels != 3:
            image = self._bands(image, mask > 0, index)
        if self.only is not None:
            mask = (mask == self.only).astype(np.uint8)
        return {"image": image.clip(0, 255).astype(np.uint8), "mask": mask, "name": f"{index:05d}"}

    def _bands(self, image_HWC: np.ndarray, shape_HW: np.ndarray, index: int) -> np.ndarray:
        """float32 (H, W, 3) -> (H, W, `channels`)."""
        if self.channels < 3:
            image_HWC = image_HWC @ np.array([[0.299], [0.587], [0.114]], np.float32)
        if self.channels == 1:
            return image_HWC
        # A random stream of their own, so that the colours do not depend on the number of bands.
        random = np.random.default_rng((*self.stream, index, 1))
        more = _more_bands(random, shape_HW, self.channels - image_HWC.shape[2])
        return np.concatenate((image_HWC, more), axis=2)


def shapes(
    channels: int = 3,
    *,
    size: int = 64,
    train: int = 1800,
    val: int = 128,
    test: int = 256,
    seed: int = 0,
    binary: bool = False,
) -> SegmentationDataset:
    """Generated data with four classes, or with `binary` two: discs, and everything else including other shapes.

    `size` is the side of an image in pixels; `train`, `val` and `test` are numbers of images. `channels` are grey;
    grey and one more band; RGB; RGB and one more band; and so on.
    Raises `UserError` for a size outside 48..4096 pixels, a split of no or more than a million images, and a negative
    seed.
    """
    if not _SIZES[0] <= size <= _SIZES[1]:
        raise UserError(f"dataset.size={size} is not possible: give {_SIZES[0]} to {_SIZES[1]} pixels.")
    if seed < 0:
        raise UserError(f"dataset.seed={seed} is negative: give 0 or more.")
    lengths = {"train": train, "val": val, "test": test}
    for name, length in lengths.items():
        if not 1 <= length <= _MOST:
            raise UserError(f"dataset.{name}={length} is not possible: give 1 to {_MOST} images.")
    classes = Classes(("background", "disc"), PALETTE[:2], binary=True) if binary else Classes(NAMES, PALETTE)
    parts = {
        name: Shapes(length, size, (seed, number), channels, 1 if binary else None)
        for number, (name, length) in enumerate(lengths.items())
    }
    return SegmentationDataset(classes, parts["train"], parts["val"], parts["test"], channels=channels)
