"""Pictures, videos and descriptions of data, spoiled at random: each is read, or refused by one line."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np
import pytest
from made_annotations import coco, cvat, cvat_masks, labelme, labelme_voc, labelstudio, yolo
from made_data import MAKERS, VOC_LISTS, devkit, flat, folders
from made_predictors import near
from made_videos import make_video
from made_wrong import WORDS, outcomes, spoiled, wrong
from PIL import Image

from segmentation.data import open_dataset
from segmentation.data.binary_masks import BinaryMask
from segmentation.data.image_io import is_animated, is_wide, read_image, read_size, read_sized
from segmentation.data.masks import ColourMask, IndexMask, LabelMask
from segmentation.data.pixel_range import PixelRange
from segmentation.data.tiff import is_georeferenced
from segmentation.inference.geotiff import predict_raster
from segmentation.inference.video import predict_video
from segmentation.tiling import Tiling
from segmentation.types import Classes, voc_palette

# ---- pictures ----

RAMP = np.arange(40 * 56, dtype=np.uint16).reshape(40, 56)
GREY = (RAMP // 9).astype(np.uint8)
COLOURS = np.stack([GREY, GREY.T.reshape(40, 56), GREY % 7 * 30], 2)


def with_pillow(values: np.ndarray, mode: str = "", **how: Any) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        picture = Image.fromarray(values)
        (picture.convert(mode) if mode else picture).save(path, **how)

    return write


def with_opencv(values: np.ndarray) -> Callable[[Path], object]:
    return lambda path: cv2.imwrite(str(path), values)


def with_rasterio(path: Path) -> None:
    rasterio = pytest.importorskip("rasterio", reason="needs rasterio, the extra geo")
    place = {"crs": "EPSG:32632", "transform": rasterio.Affine(0.5, 0, 500000, 0, -0.5, 5000000)}
    shape = {
        "height": 40,
        "width": 56,
        "count": 3,
        "dtype": "uint8",
        "tiled": True,
        "blockxsize": 16,
        "blockysize": 16,
    }
    with rasterio.open(path, "w", driver="GTiff", **shape, **place, compress="deflate") as file:
        file.write(COLOURS.transpose(2, 0, 1))


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


PICTURES: dict[str, Callable[[Path], object]] = {
    "grey.png": with_pillow(GREY),
    "one-bit.png": with_pillow(GREY, "1"),
    "palette.png": with_pillow(COLOURS, "P", bits=4),
    "wide.png": with_pillow(RAMP),
    "wide-colours.png": with_opencv(COLOURS.astype(np.uint16) * 257),
    "turned.jpg": with_pillow(COLOURS, exif=turned()),
    "inks.jpg": with_pillow(COLOURS, "CMYK"),
    "colours.tif": with_pillow(COLOURS),
    "packed.tif": with_pillow(COLOURS, compression="tiff_lzw"),
    "wide.tif": with_pillow(RAMP),
    "float.tif": with_pillow(RAMP.astype(np.float32)),
    "wide-colours.tif": with_opencv(COLOURS.astype(np.uint16) * 257),
    "earth.tif": with_rasterio,
    "frames.gif": with_pillow(GREY, save_all=True, append_images=[Image.fromarray(GREY.T)]),
    "colours.bmp": with_pillow(COLOURS),
    "palette.bmp": with_pillow(GREY, "P"),
    "colours.webp": with_pillow(COLOURS),
    "lossless.webp": with_pillow(COLOURS, "RGBA", lossless=True),
    "bands.npy": lambda path: np.save(path, np.dstack([RAMP] * 5)),
}

TWO = Classes(("a", "b"), tuple(voc_palette(2)))
READERS: list[Callable[[Path], object]] = [
    read_image,
    partial(read_image, channels=1),
    partial(read_image, channels=4),
    partial(read_image, pixel_range=PixelRange((0,), (2000,))),
    partial(read_sized, min_size=(8, 8)),
    read_size,
    is_wide,
    is_animated,
    is_georeferenced,
    LabelMask(IndexMask(TWO, others=1), ColourMask(TWO, others=1), True).decode,
    BinaryMask(127, 128, 255).decode,
]


def answer_by_window(path: Path) -> None:
    """As predict.py does with a GeoTIFF, which may be larger than any picture."""
    predictor = near()
    targets = {kind: path.parent / f"{kind}.tif" for kind in ("mask", "overlay", "probability")}
    tiling = Tiling(predict=predictor.window_probabilities, tile=32, overlap=8)
    predict_raster(path, targets, tiling, predictor, alpha=0.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    PICTURES[name](path)
    content = path.read_bytes()

    def read(random: Random) -> None:
        path.write_bytes(wrong(content, random))
        random.choice(READERS)(path)

    assert outcomes(read, 50) == {"read", "refused"}


@pytest.mark.parametrize("name", ["colours.tif", "earth.tif"])
def test_windows_of_rasters(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    PICTURES[name](path)
    content = path.read_bytes()

    def read(random: Random) -> None:
        path.write_bytes(wrong(content, random))
        answer_by_window(path)

    assert outcomes(read, 20) == {"read", "refused"}
    assert not [*tmp_path.glob("*.part*")]


# ---- videos ----


@pytest.mark.parametrize(("ending", "codec"), [("mp4", "libx264"), ("avi", "mpeg4"), ("mkv", "libx264")])
def test_videos(ending: str, codec: str, tmp_path: Path) -> None:
    path = make_video(tmp_path / f"a.{ending}", frames=4, codec=codec)
    content = path.read_bytes()

    def read(random: Random) -> None:
        path.write_bytes(wrong(content, random))
        predict_video(lambda frames: frames, path, tmp_path / "out")

    assert "read" in outcomes(read, 20)
    assert not [*(tmp_path / "out").glob("*.part*")]


# ---- what describes a data set ----


def described(root: Path) -> dict[str, Any]:
    classes = (
        'labels: {0: sky, 3: road, 255: "the rest"}\nignore: [7]\nmerge: {way: [road]}\nunlabelled: ignore\n'
    )
    options = folders(root, (0, 3, 7))
    (root / "classes.yaml").write_text(classes)
    return {**options, "names": None}


def coloured(root: Path) -> dict[str, Any]:
    options = folders(root)
    (root / "classes.yaml").write_text(
        'names: {sky: [0, 0, 255], "the rest": [1, 2, 3]}\nignore: [7, [9, 9, 9]]\n'
    )
    return {**options, "names": None}


def divided_by_hand(root: Path) -> dict[str, Any]:
    options = flat(root)
    rows = [
        f"p{number},{split}" for number, split in enumerate(["train", "train", "train", "val", "val", "test"])
    ]
    (root / "split.csv").write_text("\n".join(["name,split", *rows]))
    return {**options, "split": str(root / "split.csv")}


def made(name: str) -> Callable[[Path], dict[str, Any]]:
    def make(root: Path) -> dict[str, Any]:
        MAKERS[name](root)
        return {"name": name, "root": str(root)}

    return make


DATA: list[tuple[str, Callable[[Path], dict[str, Any]]]] = [
    ("classes.yaml", described),
    ("classes.yaml", coloured),
    ("split.csv", divided_by_hand),
    (f"{VOC_LISTS}/train.txt", devkit),
    ("class_names.txt", labelme_voc),
    ("labelmap.txt", cvat_masks),
    ("class_dict.csv", made("class_dict")),
    ("train/_classes.csv", made("roboflow")),
    ("samples.csv", made("csv")),
    ("objectInfo150.txt", made("ade20k")),
    ("annotations/trainval.txt", made("pets")),
    ("annotations.json", coco),
    ("p1.json", labelme),
    ("annotations.xml", cvat),
    ("project.json", labelstudio),
    ("data.yaml", yolo),
    ("labels/train/p0.txt", yolo),
]


@pytest.mark.parametrize(("file", "make"), DATA, ids=lambda part: getattr(part, "__name__", part))
def test_descriptions_of_data(file: str, make: Callable[[Path], dict[str, Any]], tmp_path: Path) -> None:
    options = make(tmp_path)
    content = (tmp_path / file).read_bytes()
    open_dataset(**options)

    def read(random: Random) -> None:
        (tmp_path / file).write_bytes(spoiled(content, random, WORDS))
        data = open_dataset(**options)
        assert all(len(note) < 1500 for note in data.notes)
        for part in data.splits().values():
            for index in range(len(part)):
                part[index]

    assert "refused" in outcomes(read, 20)
