"""Synthetic data for the measurements: JPEGs with masks in the layout of `dataset=binary`, and a video."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from segmentation.data.shapes import Shapes


def make_folder(
    root: Path, *, train: int, val: int = 8, test: int = 8, height: int = 360, width: int = 480
) -> Path:
    """Make `{train,val,test}/{images,masks}`: textured JPEGs of quality 90, PNG masks with 255 for shapes."""
    for stream, (split, count) in enumerate({"train": train, "val": val, "test": test}.items()):
        images, masks = root / split / "images", root / split / "masks"
        images.mkdir(parents=True)
        masks.mkdir()
        side = max(height, width)
        shapes = Shapes(count, side, (0, stream))
        top, left = (side - height) // 2, (side - width) // 2
        seen = slice(top, top + height), slice(left, left + width)
        for index in range(count):
            sample = shapes[index]
            Image.fromarray(sample["image"][seen]).save(images / f"{sample['name']}.jpg", quality=90)
            Image.fromarray((sample["mask"][seen] > 0).astype(np.uint8) * 255).save(
                masks / f"{sample['name']}.png"
            )
    return root


def make_video(path: Path, frames: int, *, height: int, width: int) -> Path:
    """Make a video of shapes that move through the picture, 25 frames per second."""
    side = max(height, width)
    pixels = np.concatenate(
        [sample["image"] for sample in map(Shapes(3, side, (0, 9)).__getitem__, range(3))], axis=1
    )
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25, (width, height))
    for index in range(frames):
        left = (4 * index) % (2 * side)
        writer.write(np.ascontiguousarray(pixels[:height, left : left + width, ::-1]))
    writer.release()
    return path
