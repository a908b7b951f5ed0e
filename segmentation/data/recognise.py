"""What a folder looks like: the marks that each tool and benchmark leaves, for messages and for `dataset=auto`."""

from pathlib import Path
from typing import NamedTuple


class Mark(NamedTuple):
    """Files that show a layout: `dataset` reads it, `name` is what people call it."""

    dataset: str
    name: str
    patterns: tuple[str, ...]


MARKS = (
    Mark("voc", "PASCAL VOC's layout", ("JPEGImages", "valid_labels", "VOCdevkit", "VOC2012")),
    Mark("cityscapes", "Cityscapes", ("leftImg8bit", "gtFine")),
    Mark("ade20k", "ADE20K", ("annotations/training", "objectInfo150.txt", "ADEChallengeData2016")),
    Mark("pets", "the Oxford pets", ("annotations/trimaps",)),
    Mark("roboflow", "Roboflow's masks", ("_classes.csv", "train/_classes.csv")),
    Mark("class_dict", "coloured masks with a table of their classes", ("class_dict.csv",)),
    Mark("cvat", "CVAT's XML", ("annotations.xml",)),
    Mark(
        "coco",
        "COCO's JSON",
        ("*annotations*.json", "annotations/*.json", "*/_annotations.coco.json", "*coco*.json"),
    ),
    Mark("yolo", "YOLO's text files", ("data.yaml", "data.yml", "labels/*.txt", "labels/*/*.txt")),
)
_SPLITS = ("train", "val", "valid", "test")
_START = 2**14  # bytes of a JSON file that are read
_PICTURES = ("jpg", "jpeg", "png", "JPG")
_PAIRS = ("ann_dir", "trainannot", "train_labels", "label", "labels", "gt", "mask")


def marks(folder: Path) -> list[Mark]:
    """The layouts whose marks a folder bears."""
    found = [mark for mark in MARKS if any(any(folder.glob(pattern)) for pattern in mark.patterns)]
    if _is_labelme(folder):
        found.append(Mark("labelme", "labelme's JSON", ("*.json",)))
    if _is_labelstudio(folder):
        found.append(Mark("labelstudio", "Label Studio's JSON", ("*.json",)))
    if _is_regions(folder):
        found.append(Mark("regions", "a mask file for each object", ("*/masks",)))
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


def _is_labelstudio(folder: Path) -> bool:
    """Whether a JSON file begins as a list of tasks with annotations."""
    for path in folder.glob("*.json"):
        if path.is_file():
            with path.open("rb") as file:
                start = file.read(_START)
            if start.lstrip().startswith(b"[") and b'"annotations"' in start and b'"images"' not in start:
                return True
    return False


def _is_regions(folder: Path) -> bool:
    """Whether folders that are no split hold images/ and masks/ each."""
    places = (path.parent for path in folder.glob("*/masks") if (path.parent / "images").is_dir())
    return any(place.name.partition("_")[0] not in _SPLITS for place in places)
