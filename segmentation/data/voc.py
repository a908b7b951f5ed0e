"""PASCAL VOC 2012 (Everingham et al. 2010), in the devkit's layout or in the edition with four folders."""

from pathlib import Path
from typing import Literal

from segmentation.data.dataset import PairDataset, SegmentationDataset
from segmentation.data.files import (
    Listing,
    Pairs,
    contents,
    encode_names,
    list_files,
    missing_folder,
    pair_folders,
)
from segmentation.data.masks import ColourMask, IndexMask, LabelMask
from segmentation.errors import UserError
from segmentation.types import IGNORE_COLOUR, Classes

NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train"),
    "tvmonitor",
)
_NO_TEST = "VOC publishes no test masks: val is used as test."
_TRAINVAL = (
    "The val images are also used for training (train_list=trainval): "
    "val and test scores say nothing about new images."
)
_DEVKIT = "JPEGImages, SegmentationClass and ImageSets/Segmentation/{train,val}.txt"
_FOUR = "train_images, train_labels, valid_images, valid_labels"
_EXPECTED = f"{_DEVKIT}; or {_FOUR}"


def voc(
    channels: int = 3,
    *,
    root: Path,
    train_list: Literal["train", "trainval"] = "train",
    download: bool = False,
) -> SegmentationDataset:
    """21 classes. The object borders (255, or their colour in RGB masks) are ignored, and val is used as test.

    `root` holds the devkit's JPEGImages, directly or in [VOCdevkit/]VOC2012, or the four folders. With `download` an
    archive of 2 GB is first downloaded to `root`, unless the data is already there. Images are read with `channels`
    bands.

    Raises `UserError` for another layout, for a listed name without image or mask, for `train_list=trainval`
    without the devkit's lists, and for a failed download.
    """
    if download and _find_tree(root) is None:
        _download(root)
    tree = _find_tree(root)
    if tree is not None:
        parts = _read_devkit(tree, train_list)
    elif not root.is_dir():
        raise missing_folder(root, _EXPECTED)
    elif not any((root / folder).is_dir() for folder in _FOUR.split(", ")):
        raise UserError(f"{root} holds {contents(root)}. Expected: {_EXPECTED}.")
    elif train_list == "trainval":
        raise UserError(
            f"dataset.train_list=trainval needs the devkit's lists, which {root} does not have: use train."
        )
    else:
        parts = {
            split: pair_folders(root / f"{folder}_images", root / f"{folder}_labels", _FOUR)
            for split, folder in (("train", "train"), ("val", "valid"))
        }
    classes = Classes(NAMES)
    decoder = LabelMask(IndexMask(classes), ColourMask(classes, (IGNORE_COLOUR,)))
    train, val = (PairDataset(parts[split], decoder, channels) for split in ("train", "val"))
    notes = (_NO_TEST, _TRAINVAL) if train_list == "trainval" else (_NO_TEST,)
    return SegmentationDataset(classes, train, val, val, notes, channels)


def _find_tree(root: Path) -> Path | None:
    folders = (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012")
    return next((folder for folder in folders if (folder / "JPEGImages").is_dir()), None)


def _read_devkit(tree: Path, train_list: str) -> dict[str, Pairs]:
    images = list_files(tree / "JPEGImages", _DEVKIT)
    masks = list_files(tree / "SegmentationClass", _DEVKIT)
    lists = tree / "ImageSets" / "Segmentation"
    return {
        split: _read_list(lists / f"{name}.txt", images, masks)
        for split, name in (("train", train_list), ("val", "val"))
    }


def _read_list(path: Path, images: Listing, masks: Listing) -> Pairs:
    if not path.is_file():
        raise UserError(f"There is no list {path}. Expected: {_DEVKIT}.")
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    numbered = [(number, name) for number, line in enumerate(lines, 1) if (name := line.strip())]
    if not numbered:
        raise UserError(f"{path} lists no names: write one per line, without file name ending.")
    stems = encode_names(name for _, name in numbered)
    image_indices, mask_indices = images.find(stems), masks.find(stems)
    seen: set[str] = set()
    for (number, name), image, mask in zip(numbered, image_indices, mask_indices, strict=True):
        for kind, index in (("image in JPEGImages", image), ("mask in SegmentationClass", mask)):
            if index < 0:
                raise UserError(f"{path}, line {number}: '{name}' has no {kind}: add it or delete the line.")
        if name in seen:
            raise UserError(f"{path}, line {number}: '{name}' is listed twice: delete the line.")
        seen.add(name)
    endings = images.endings[image_indices], masks.endings[mask_indices]
    return Pairs(images.folder, masks.folder, stems, *endings)


def _download(root: Path) -> None:
    from torchvision import datasets  # imports torch, which reading does not need
    from torchvision.datasets.voc import DATASET_YEAR_DICT

    try:
        datasets.VOCSegmentation(root, year="2012", download=True)
    except Exception as error:  # network, server, disk and archive fail with many kinds of exceptions
        url = DATASET_YEAR_DICT["2012"]["url"]
        reason = str(getattr(error, "reason", error)).partition("\n")[0]
        raise UserError(
            f"VOC could not be downloaded ({reason}): download {url} by hand and unpack it in {root}, "
            "which then holds VOCdevkit/VOC2012."
        ) from error
