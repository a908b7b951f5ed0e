"""What a folder looks like: the marks that each tool and benchmark leaves, for messages and for `dataset=auto`."""

from pathlib import Path
from typing import NamedTuple


class Mark(NamedTuple):
    """Files that show a layout: `dataset` reads it, `name` is what people call it."""

    dataset: str
    name: str
    patterns: tuple[str, ...]


MARKS = (
    Mark("voc", "PASCAL VOC's layout", ("JPEGImages", "train_images", "VOCdevkit", "VOC2012")),
    Mark("cityscapes", "Cityscapes", ("leftImg8bit", "gtFine")),
    Mark("ade20k", "ADE20K", ("annotations/training", "objectInfo150.txt", "ADEChallengeData2016")),
    Mark("pets", "the Oxford pets", ("annotations/trimaps",)),
    Mark("roboflow", "Roboflow's masks", ("_classes.csv", "train/_classes.csv")),
    Mark("class_dict", "a folder with class_dict.csv", ("class_dict.csv",)),
    Mark("cvat", "CVAT's XML", ("annotations.xml",)),
    Mark("coco", "COCO's JSON", ("*annotations*.json", "annotations/*.json", "*/_annotations.coco.json")),
    Mark("yolo", "YOLO's text files", ("data.yaml", "data.yml", "labels/*.txt", "labels/*/*.txt")),
)
_PICTURES = ("jpg", "jpeg", "png", "JPG")
_PAIRS = ("ann_dir", "trainannot", "train_labels", "label", "labels", "gt", "mask")


def marks(folder: Path) -> list[Mark]:
    """The layouts whose marks a folder bears."""
    found = [mark for mark in MARKS if any(any(folder.glob(pattern)) for pattern in mark.patterns)]
    if _is_labelme(folder):
        found.append(Mark("labelme", "labelme's JSON", ("*.json",)))
    return found


def recognised(folder: Path) -> str:
    """For messages: what a folder looks like; "" for an unknown layout."""
    for mark in marks(folder):
        return f"{mark.name}: use dataset={mark.dataset}"
    apart = next((name for name in _PAIRS if (folder / name).is_dir()), None)
    return f"images and masks, these in {apart}/: use dataset=auto or dataset=pairs" if apart else ""


def _is_labelme(folder: Path) -> bool:
    """Whether a JSON file lies beside the picture of its name."""
    file = next(folder.glob("*.json"), None)
    return file is not None and any(file.with_suffix(f".{ending}").exists() for ending in _PICTURES)
