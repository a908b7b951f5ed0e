"""Small good data sets, as files: each builder fills a folder and gives the options that read it."""

from collections.abc import Callable
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


# ---- layouts with mask files: each fills a folder with the same samples, whose masks are `KNOWN` ----

PARTS = {"train": 6, "val": 2, "test": 2}
COLOURS = [[0, 0, 0], [128, 64, 0], [0, 64, 128]]
THINGS = ["ground", "roof", "road"]


def known(number: int, classes: int = 3, height: int = 24, width: int = 32) -> np.ndarray:
    """uint8 (H, W), the mask of a sample: a rectangle of each class but the first, elsewhere for each number."""
    values = np.zeros((height, width), np.uint8)
    for label in range(1, classes):
        top, left = (3 * number + 5 * label) % (height - 8), (7 * number + 11 * label) % (width - 8)
        values[top : top + 8, left : left + 8] = label
    return values


def pictured(number: int, classes: int = 3) -> np.ndarray:
    """uint8 (H, W, 3), the image of a sample: its classes are brighter, and its blue is its number, for any format."""
    values = known(number, classes)
    return np.stack([values * 80, values * 40 + 20, np.full_like(values, 20 * number)], axis=-1)


def numbered() -> list[tuple[str, int]]:
    """The split and the number of each sample."""
    splits = [split for split, count in PARTS.items() for _ in range(count)]
    return list(zip(splits, range(len(splits)), strict=True))


def put(root: Path, image_path: str, mask_path: str, number: int, kind: str = "indices") -> None:
    """A sample with its mask as indices, colours, a palette, or black and white."""
    save(root / image_path, pictured(number, 2 if kind == "binary" else 3), quality=100)
    values = known(number, 2 if kind == "binary" else 3)
    if kind == "colours":
        save(root / mask_path, np.array(COLOURS, np.uint8)[values])
    elif kind == "palette":
        picture = Image.fromarray(values).convert("P")
        picture.putpalette([part for colour in COLOURS for part in colour])
        (root / mask_path).parent.mkdir(parents=True, exist_ok=True)
        picture.save(root / mask_path)
    else:
        save(root / mask_path, values * 255 if kind == "binary" else values)


def masks_in(image_path: str, mask_path: str, kind: str = "indices") -> Callable[[Path], None]:
    """A maker of samples at these places: {split} and {n} are filled in."""

    def make(root: Path) -> None:
        for split, number in numbered():
            put(root, *(path.format(split=split, n=number) for path in (image_path, mask_path)), number, kind)

    return make


def make_cityscapes(root: Path) -> None:
    ids = np.array([3, 7, 26], np.uint8)  # an ignored id, road and car
    for split, number in numbered():
        name = f"{split}/aachen/aachen_{number:06}_000019"
        save(root / f"leftImg8bit/{name}_leftImg8bit.png", pictured(number))
        if split != "test":
            save(root / f"gtFine/{name}_gtFine_labelIds.png", ids[known(number)])


def make_ade20k(root: Path) -> None:
    for split, number in numbered():
        if split != "test":
            folder = {"train": "training", "val": "validation"}[split]
            put(root, f"images/{folder}/A{number}.jpg", f"annotations/{folder}/A{number}.png", number)
    rows = [f"{number}\t0.1\t10\t2\tthing{number}, other" for number in range(1, 151)]
    (root / "objectInfo150.txt").write_text("\n".join(["Idx\tRatio\tTrain\tVal\tName", *rows]))


def make_roboflow(root: Path) -> None:
    for split, number in numbered():
        folder = {"val": "valid"}.get(split, split)
        put(root, f"{folder}/{number}.jpg", f"{folder}/{number}_mask.png", number)
        rows = [f"{value}, {name}" for value, name in enumerate(THINGS)]
        (root / folder / "_classes.csv").write_text("\n".join(["Pixel Value, Class", *rows]))


def make_class_dict(root: Path) -> None:
    masks_in("{split}/{split}_{n}.png", "{split}_labels/{split}_{n}_L.png", "colours")(root)
    rows = [f"{name},{r},{g},{b}" for name, (r, g, b) in zip(THINGS, COLOURS, strict=True)]
    (root / "class_dict.csv").write_text("\n".join(["name,r,g,b", *rows, "Void,1,1,1"]))


def make_pets(root: Path) -> None:
    for _, number in numbered():
        put(root, f"images/cat_{number}.jpg", f"annotations/trimaps/cat_{number}.png", number)
        save(root / f"annotations/trimaps/cat_{number}.png", np.array([2, 1, 3], np.uint8)[known(number)])
    for name, numbers in (("trainval", range(8)), ("test", range(8, 10))):
        lines = "".join(f"cat_{number} 1 1 1\n" for number in numbers)
        (root / "annotations" / f"{name}.txt").write_text(lines)


def make_csv(root: Path) -> None:
    rows = ["image,mask,split"]
    for split, number in numbered():
        put(root, f"pics/{number}.jpg", f"truth/t{number}.png", number)
        rows.append(f"pics/{number}.jpg,truth/t{number}.png,{split}")
    (root / "samples.csv").write_text("\n".join(rows))


def make_trainaug(root: Path) -> None:
    devkit(root, (0, 15, 255))
    save(root / "SegmentationClassAug/b.png", mask(0, 2))
    save(root / "SegmentationClassAug/a.png", mask(0, 1))
    (root / VOC_LISTS / "trainaug.txt").write_text("a\nb\n")


MAKERS = {
    "ade20k": make_ade20k,
    "cityscapes": make_cityscapes,
    "class_dict": make_class_dict,
    "csv": make_csv,
    "pairs": masks_in("{n}.jpg", "{n}_mask.png"),
    "pets": make_pets,
    "roboflow": make_roboflow,
}
"""Layouts by the name that reads them."""
