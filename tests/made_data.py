"""Small good data sets, as files: each builder fills a folder and gives the options that read it."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

NAMES = ["sky", "road"]
VOC_LISTS = "ImageSets/Segmentation"


def save(path: Path, values: Any, mode: str | None = None, **options: Any) -> Path:
    """Writes an array as a picture, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.asarray(values))
    (picture.convert(mode) if mode else picture).save(path, **options)
    return path


def image(height: int = 8, width: int = 12) -> np.ndarray:
    return np.full((height, width, 3), 90, np.uint8)


def mask(*values: int, height: int = 8, width: int = 12) -> np.ndarray:
    """uint8 (H, W) in which each of the values has a stripe."""
    return np.resize(np.array(values, np.uint8), (width, height)).T.copy()


def fill(folder: Path, count: int = 3, values: tuple[int, ...] = (0, 255), start: int = 0) -> Path:
    """images/ and masks/ with `count` pairs."""
    for number in range(start, start + count):
        save(folder / "images" / f"p{number}.png", image())
        save(folder / "masks" / f"p{number}.png", mask(*values))
    return folder


def flat(root: Path, count: int = 6, values: tuple[int, ...] = (0, 255)) -> dict[str, Any]:
    fill(root, count, values)
    return {"name": "binary", "root": str(root)}


def divided(root: Path) -> dict[str, Any]:
    """The binary data in folders, with masks of 0/1."""
    return {"name": "binary", "root": folders(root)["root"]}


def folders(root: Path, values: tuple[int, ...] = (0, 1), names: Any = NAMES) -> dict[str, Any]:
    for number, split in enumerate(("train", "val", "test")):
        fill(root / split, 2, values, start=10 * number)
    return {"name": "folder", "root": str(root), "names": names}


def devkit(root: Path, values: tuple[int, ...] = (0, 15, 255)) -> dict[str, Any]:
    for name in ("a", "b", "c"):
        save(root / "JPEGImages" / f"{name}.jpg", image())
        save(root / "SegmentationClass" / f"{name}.png", mask(*values))
    lists = root / VOC_LISTS
    lists.mkdir(parents=True)
    for split, names in (("train", "a\nb\n"), ("val", "c\n"), ("trainval", "a\nb\nc\n")):
        (lists / f"{split}.txt").write_text(names)
    return {"name": "voc", "root": str(root)}
