"""What a folder looks like: the marks that each tool and benchmark leaves, for messages and for `dataset=auto`."""

from glob import escape
from itertools import islice
from pathlib import Path
from typing import NamedTuple


class Mark(NamedTuple):
    """Files that show a layout: `dataset` reads it, `name` is what people call it."""

    dataset: str
    name: str
    patterns: tuple[str, ...]


ADE20K_IN_FULL = tuple(
    f"{below}{name}"
    for below in ("", "ADE20K_*/")
    for name in ("index_ade20k.*", "images/training/*/*/ADE_train_*_seg.png", "images/ADE/training")
)
"""Marks of the release with 3000 classes, which is not that of the scene parsing."""

MARKS = (
    Mark("voc", "PASCAL VOC's layout", ("JPEGImages", "valid_labels", "VOCdevkit", "VOC2012")),
    Mark("cityscapes", "Cityscapes", ("leftImg8bit", "gtFine")),
    Mark(
        *("ade20k", "ADE20K"),
        ("annotations/training", "objectInfo150.txt", "ADEChallengeData2016", *ADE20K_IN_FULL),
    ),
    Mark("pets", "the Oxford pets", ("annotations/trimaps",)),
    Mark("roboflow", "Roboflow's masks", ("_classes.csv", "train/_classes.csv")),
    Mark("class_dict", "coloured masks with a table of their classes", ("class_dict.csv",)),
    Mark("cvat", "CVAT's XML", ("annotations.xml", "*/annotations.xml")),
    Mark(
        "coco",
        "COCO's JSON",
        ("*annotations*.json", "annotations/*.json", "*/_annotations.coco.json", "*coco*.json"),
    ),
    Mark("yolo", "YOLO's text files", ("data.yaml", "data.yml", "labels/*.txt", "labels/*/*.txt")),
)
BRUSHES = "task-*-annotation-*-tag-*.png"
"""What Label Studio calls the files of its export of brushes, one for each region."""

PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Names of split folders."""

_JSON = ("*.json", "*/*.json")
_LOOKED_INTO = 8  # files of each pattern, of which some may be anything
_START = 2**14  # bytes of a JSON file that are read
_PAIRS = ("ann_dir", "trainannot", "train_labels", "label", "labels", "gt", "mask")


def marks(folder: Path) -> list[Mark]:
    """The layouts whose marks a folder bears."""
    found = [mark for mark in MARKS if any(any(folder.glob(pattern)) for pattern in mark.patterns)]
    known = {mark.dataset for mark in found}
    found += [mark for mark in _json_marks(folder) if mark.dataset not in known]
    if not found and any(folder.glob(BRUSHES)):
        found.append(Mark("labelstudio", "Label Studio's PNG files", (BRUSHES,)))
    if _is_regions(folder):
        found.append(Mark("regions", "a mask file for each object", ("*/masks",)))
    return found


def recognised(folder: Path) -> str:
    """For messages: what a folder looks like; "" for an unknown layout."""
    for mark in marks(folder):
        return f"{mark.name}: use dataset={mark.dataset}"
    apart = next((name for name in _PAIRS if (folder / name).is_dir()), None)
    return f"images and masks, these in {apart}/: use dataset=auto or dataset=pairs" if apart else ""


def _json_marks(folder: Path) -> list[Mark]:
    """The tools whose words are at the beginning of JSON files, which people call as they like."""
    found: dict[str, Mark] = {}
    for pattern in _JSON:
        for path in islice((path for path in folder.glob(pattern) if path.is_file()), _LOOKED_INTO):
            with path.open("rb") as file:
                start = file.read(_START)
            name = escape(path.relative_to(folder).as_posix())
            listed = start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
            if not listed and b'"shapes"' in start and b'"version"' in start:
                found.setdefault("labelme", Mark("labelme", "labelme's JSON", (name,)))
            if pattern != _JSON[0]:
                continue
            if not listed and b'"images"' in start and b'"file_name"' in start:
                found.setdefault("coco", Mark("coco", "COCO's JSON", (name,)))
            if listed and b'"annotations"' in start and b'"images"' not in start:
                found.setdefault("labelstudio", Mark("labelstudio", "Label Studio's JSON", (name,)))
    return list(found.values())


def _is_regions(folder: Path) -> bool:
    """Whether folders that are no split hold images/ and masks/ each, and most of them one image."""
    places = (path.parent for path in folder.glob("*/masks") if (path.parent / "images").is_dir())
    places = (place for place in places if place.name.partition("_")[0].lower() not in PARTS)
    single = [len(list(islice(place.glob("images/[!.]*"), 2))) == 1 for place in places]
    return 2 * sum(single) > len(single)
