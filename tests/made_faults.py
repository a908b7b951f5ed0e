"""Clean data with pictures that differ, and one planted fault of each kind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from made_data import save
from PIL import Image

from segmentation.data import create_dataset
from segmentation.data.dataset import FileDataset

Options = dict[str, Any]

SIDE = 64
COUNT = 12


def texture(seed: int, side: int = SIDE) -> np.ndarray:
    """uint8 (side, side, 3): smooth, and unlike that of another seed."""
    coarse = np.random.default_rng(seed).integers(20, 230, (8, 8, 3), np.uint8)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)


def square(seed: int = 0, value: int = 1, size: int = 28, rest: int = 0, side: int = SIDE) -> np.ndarray:
    """uint8 (side, side): a square of a value."""
    mask = np.full((side, side), rest, np.uint8)
    top, left = np.random.default_rng(seed).integers(1, side - size, 2)
    mask[top : top + size, left : left + size] = value
    return mask


def clean(root: Path, value: int = 1, count: int = COUNT, first: int = 0) -> Options:
    """images/ and masks/ with a square of a class in each."""
    for number in range(first, first + count):
        save(root / f"images/p{number:02}.png", texture(number))
        save(root / f"masks/p{number:02}.png", square(number, value))
    return {"name": "folder", "root": str(root), "names": ["background", "thing"]}


def clean_binary(root: Path) -> Options:
    clean(root, 255)
    return {"name": "binary", "root": str(root)}


class Planted(NamedTuple):
    """`plant` spoils clean data in a folder, and gives its options and the file at fault, or what the text must say."""

    id: str
    plant: Callable[[Path], tuple[Options, str]]
    data: Options = {}  # noqa: RUF012 - is not changed
    beside: frozenset[str] = frozenset()  # ids that the fault brings with it


def _masks(root: Path) -> list[Path]:
    return sorted((root / "masks").iterdir())


def _changed(
    change: Callable[[Path], str], build: Callable[[Path], Options] = clean
) -> Callable[[Path], tuple[Options, str]]:
    def plant(root: Path) -> tuple[Options, str]:
        options = build(root)
        return options, change(root)

    return plant


def _every_mask(values: Callable[[int], np.ndarray]) -> Callable[[Path], str]:
    def change(root: Path) -> str:
        for number, path in enumerate(_masks(root)):
            save(path, values(number))
        return ""

    return change


def _one_mask(values: np.ndarray, mode: str | None = None) -> Callable[[Path], str]:
    return lambda root: str(save(root / "masks/p03.png", values, mode))


def _no_classes(root: Path) -> tuple[Options, str]:
    return {"name": "folder", "root": clean(root)["root"]}, "classes.yaml"


def _unknown_class(root: Path) -> tuple[Options, str]:
    return {**clean(root), "names": ["background", "thing", "other"]}, "no pixel of other"


def _background_alone(root: Path) -> tuple[Options, str]:
    options = clean(root)
    for number, path in enumerate(_masks(root)):
        save(path, square(number, 0))
    return options, "hold nothing but background"


def _no_partner(root: Path) -> str:
    (root / "masks/p03.png").unlink()
    return "p03"


def _per_region(root: Path) -> str:
    for path in _masks(root):
        for part in (1, 2):
            save(path.with_stem(f"{path.stem}_{part}"), square(part))
        path.unlink()
    return "p03_1"


def _folder_per_image(root: Path) -> str:
    for path in _masks(root):
        save(path.with_suffix("") / "1.png", square())
        path.unlink()
    return str(root / "masks/p03")


def _truncated(root: Path) -> str:
    path = root / "images/p03.png"
    path.write_bytes(path.read_bytes()[:200])
    return str(path)


def _array(values: np.ndarray) -> Callable[[Path], str]:
    def change(root: Path) -> str:
        (root / "images/p03.png").unlink()
        np.save(root / "images/p03.npy", values)
        return str(root / "images/p03.npy")

    return change


def _jpeg_mask(root: Path) -> str:
    path = root / "masks/p03.png"
    values = np.asarray(Image.open(path)).copy()
    path.unlink()
    return str(save(path.with_suffix(".jpg"), values, quality=95))


def _turned(root: Path) -> str:
    exif = Image.Exif()
    exif[0x0112] = 3
    return str(save(root / "images/p03.png", texture(3), exif=exif))


def _palettes(root: Path) -> str:
    for path in _masks(root):
        picture = Image.fromarray(square(1))
        picture.putpalette([0, 0, 0, 0, 0, 200] if path.stem == "p03" else [0, 0, 0, 200, 0, 0])
        picture.save(path)
    return str(root / "masks/p03.png")


def _large(root: Path) -> str:
    save(root / "images/p03.png", texture(3, 200))
    return str(save(root / "masks/p03.png", square(3, side=200, size=90))).replace("masks", "images")


def _copied(there: str, *, mask: bool, brighter: int = 0) -> Callable[[Path], str]:
    """The first training image again: in another split, or `there`=train. With its mask, or with its own."""

    def change(root: Path) -> str:
        splits = create_dataset(
            **{"name": "folder", "root": str(root), "names": ["background", "thing"]}
        ).splits()
        one, other = splits["train"], splits[there]
        assert isinstance(one, FileDataset)
        assert isinstance(other, FileDataset)
        index = 1 if there == "train" else 0
        picture = np.asarray(Image.open(one.images.path(0))).astype(int) + brighter
        save(other.images.path(index), picture.clip(0, 255).astype(np.uint8))
        if mask:
            other.labels.path(index).write_bytes(one.labels.path(0).read_bytes())
        return str(other.images.path(index))

    return change


PLANTED = (
    Planted("layout", _no_classes),
    Planted("split", lambda root: (clean(root, count=2), "2 images are too few")),
    Planted("missing-partner", _changed(_no_partner)),
    Planted("mask-per-region", _changed(_per_region)),
    Planted("mask-per-region", _changed(_folder_per_image)),
    Planted("unreadable", _changed(_truncated)),
    Planted("size-mismatch", _changed(_one_mask(square(3)[:50]))),
    Planted("bands", _changed(_array(np.zeros((SIDE, SIDE, 5), np.uint8)))),
    Planted("lossy-mask", _changed(_jpeg_mask)),
    Planted("label-range", _changed(_one_mask(square(3, 7)))),
    Planted("mask-colours", _changed(_one_mask(texture(3)))),
    Planted("mask-values", _changed(_one_mask(square(3, 100)), clean_binary)),
    Planted("binary-values", _changed(_every_mask(lambda number: square(number, 255)))),
    Planted(
        "all-ignored",
        _changed(_every_mask(lambda number: square(rest=255, value=255))),
        beside=frozenset({"ignored-mask"}),
    ),
    Planted(
        "no-background",
        _changed(_every_mask(lambda number: square(number, rest=255))),
        beside=frozenset({"absent-class", "one-class"}),
    ),
    Planted("one-class", _background_alone, beside=frozenset({"absent-class", "empty-mask"})),
    Planted("duplicate-across-splits", _changed(_copied("test", mask=True))),
    Planted("duplicate-other-mask", _changed(_copied("train", mask=False))),
    Planted("duplicate", _changed(_copied("train", mask=True))),
    Planted("near-duplicate-across-splits", _changed(_copied("val", mask=True, brighter=6))),
    Planted("near-duplicate", _changed(_copied("train", mask=False, brighter=-6))),
    Planted("unusable", _changed(_array(np.zeros((SIDE, SIDE, 3), complex)))),
    Planted("changing-ids", _changed(_palettes)),
    Planted("changing-ids", _changed(_one_mask(255 - square(3, 255, 8)), clean_binary)),
    Planted("changing-ids", _changed(_one_mask(square(3, 255)))),
    Planted("soft-mask", _changed(_jpeg_mask, clean_binary)),
    Planted("turned-image", _changed(_turned)),
    Planted("absent-class", _unknown_class),
    Planted("ignored-mask", _changed(_one_mask(square(value=255, rest=255)))),
    Planted(
        "large-images",
        _changed(lambda root: str(root / "images/p03.png")),
        {"size": [16, 16], "resize": True},
        frozenset({"small-objects"}),
    ),
    Planted("empty-mask", _changed(_one_mask(square(value=0)))),
    Planted("odd-size", _changed(_large)),
    Planted(
        "small-objects", _changed(_every_mask(lambda number: square(number, size=7))), beside=frozenset()
    ),
)
