"""The built-in data: shapes on textured ground, made from a seed, so that everything runs without a download.

Classes differ by outline alone. Colours and textures are drawn from one distribution for all of them
and for the ground, later shapes cover earlier ones, and noise lies on top: a shifted mask, a wrong loss or a broken
evaluation shows in the scores.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from segmentation.classes import Classes
from segmentation.data.source import Source
from segmentation.errors import UserError
from segmentation.sample import Sample

NAMES = ("background", "disc", "square", "triangle", "star")
PALETTE = ((40, 44, 52), (230, 80, 70), (70, 160, 240), (250, 190, 60), (110, 200, 110))


def _polygon(label: int, centre: np.ndarray, radius: float, angle: float) -> np.ndarray:
    """Corners (N, 2) of the outline of class `label`, turned by `angle` radians."""
    corners = {1: 48, 2: 4, 3: 3, 4: 10}[label]
    turns = angle + np.arange(corners) * (2 * np.pi / corners)
    radii = np.where(np.arange(corners) % 2, 0.42 * radius, radius) if label == 4 else radius
    points = centre + np.stack((np.cos(turns), np.sin(turns)), axis=1) * np.reshape(radii, (-1, 1))
    return points.round().astype(np.int32)


def _colour(random: np.random.Generator, ground: np.ndarray | None = None) -> np.ndarray:
    """A random colour; on a `ground` one that can be told from it, or nobody could see the shape."""
    while True:
        colour = random.uniform(40, 215, 3).astype(np.float32)
        if ground is None or np.abs(colour - ground).max() > 60:
            return colour


def _texture(random: np.random.Generator, colour: np.ndarray, size: int) -> np.ndarray:
    """The colour with soft blotches and stripes, float32 (H, W, 3) around 0..255."""
    blotches = 16 * random.standard_normal((size // 12, size // 12, 3), np.float32)
    rows, columns = (axis.astype(np.float32) for axis in np.ogrid[:size, :size])
    direction, pitch = random.uniform(0, np.pi), 2 * np.pi / random.uniform(4, 16)
    across = np.array([np.cos(direction) * pitch, np.sin(direction) * pitch], np.float32)
    stripes = np.sin(rows * across[0] + columns * across[1])
    soft = cv2.resize(blotches, (size, size), interpolation=cv2.INTER_LINEAR)
    return colour + soft + np.float32(random.uniform(0, 14)) * stripes[..., None]


@dataclass(frozen=True)
class Shapes:
    """`length` images of `size` x `size` pixels; item i is the same for the same `stream` of seeds."""

    length: int
    size: int
    stream: tuple[int, ...]
    only: int | None = None  # the one class that is foreground in the binary variant

    @property
    def names(self) -> list[str]:
        """A number each."""
        return [f"{index:05d}" for index in range(self.length)]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.length:
            raise IndexError(index)
        random = np.random.default_rng((*self.stream, index))
        ground = _colour(random)
        image = _texture(random, ground, self.size)
        mask = np.zeros((self.size, self.size), np.uint8)
        for label in random.integers(1, len(NAMES), random.integers(2, 6)):
            radius = random.uniform(0.14, 0.28) * self.size
            centre = random.uniform(0.1, 0.9, 2) * self.size
            outline = _polygon(int(label), centre, radius, random.uniform(0, 2 * np.pi))
            inside = cv2.fillPoly(np.zeros_like(mask), [outline], 1).astype(bool)
            image[inside] = _texture(random, _colour(random, ground), self.size)[inside]
            mask[inside] = label
        image += 8 * random.standard_normal(image.shape, np.float32)
        if self.only is not None:
            mask = (mask == self.only).astype(np.uint8)
        return {"image": image.clip(0, 255).astype(np.uint8), "mask": mask, "name": f"{index:05d}"}


def shapes(
    *, size: int = 96, train: int = 1024, val: int = 128, test: int = 256, seed: int = 0, binary: bool = False
) -> Source:
    """Five classes, or with `binary` discs against everything else, other shapes included.

    `size` is the side of an image in pixels, `train`, `val` and `test` are numbers of images.
    Raises `UserError` for a size below 48 pixels, an empty split or a negative seed.
    """
    if size < 48:
        raise UserError(f"dataset.size={size} is too small to tell shapes apart: give at least 48 pixels.")
    if seed < 0:
        raise UserError(f"dataset.seed={seed} is negative: give 0 or more.")
    lengths = {"train": train, "val": val, "test": test}
    for name, length in lengths.items():
        if length < 1:
            raise UserError(f"dataset.{name}={length} leaves the split without images: give at least 1.")
    classes = Classes(("background", "disc"), PALETTE[:2], binary=True) if binary else Classes(NAMES, PALETTE)
    parts = {
        name: Shapes(length, size, (seed, number), 1 if binary else None)
        for number, (name, length) in enumerate(lengths.items())
    }
    return Source(classes, parts["train"], parts["val"], parts["test"])
