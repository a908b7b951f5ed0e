"""PASCAL VOC 2012 (Everingham et al. 2010), in the devkit's layout or in the edition with four folders."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from segmentation.data.dataset import WHOLE, FoundFiles
from segmentation.data.files import (
    IMAGE_ENDINGS,
    Listing,
    Names,
    Pairs,
    composed,
    encode_names,
    first_of,
    list_files,
    listing_of,
    missing_folder,
    pair_folders,
    wrong_layout,
)
from segmentation.data.layouts.folders import with_masks
from segmentation.data.masks import ColourMask, IndexMask, LabelMask, any_with_eight_bits
from segmentation.errors import UserError
from segmentation.reading import LIST_BYTES, read_text
from segmentation.types import IGNORE_COLOUR, Classes, Colour, voc_palette

NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train"),
    "tvmonitor",
)
_LISTS = (
    "class_names.txt",
    "labelmap.txt",
    "classes.txt",
    "obj.names",
)  # of labelme, CVAT, and detection tools
_BACKGROUND = ("_background_", "__background__")
_NO_TEST = "VOC publishes no test masks: val is used as test."
_TRAINVAL = (
    "The val images are also used for training (train_list=trainval): "
    "val and test scores say nothing about new images."
)
_DEVKIT = "JPEGImages, SegmentationClass and ImageSets/Segmentation/{train,val}.txt"
_AUGMENTED = "SegmentationClassAug"
_WITH_SBD = (
    f"{_AUGMENTED} with SBD's masks as PNG, or SBD's cls/*.mat, and ImageSets/Segmentation/trainaug.txt"
)
_SBD = ("cls", "SBD/cls", "sbd/cls", "benchmark_RELEASE/dataset/cls")
_FOUR = "train_images, train_labels, valid_images, valid_labels"
_EXPECTED = f"{_DEVKIT}; or {_FOUR}"


def voc(
    *, root: Path, train_list: Literal["train", "trainval", "trainaug"] = "train", download: bool = False
) -> FoundFiles:
    """21 classes, or those of a class list that a labelling tool left; val is used as test.

    The object borders (255, or their colour in RGB masks) are ignored.
    `root` holds the devkit's JPEGImages, directly or in [VOCdevkit/]VOC2012, or the four folders. Without the devkit's
    lists, as labelme and CVAT export it, all images with masks are divided by fractions. With `download` an
    archive of 2 GB is first downloaded to `root`, unless the data is already there. With `train_list=trainaug` the
    training masks are those of SBD (Hariharan et al. 2011), listed in trainaug.txt: in SegmentationClassAug, or in
    SBD's own cls/*.mat where VOC has no mask; cls/ is in `root`, or there in the folders of SBD's archive.

    Raises `UserError` for another layout, for a listed name without image or mask, for class lists that contradict
    each other or name no background, for `train_list=trainval` without the devkit's lists, and for a failed download.
    """
    if download and _find_tree(root) is None:
        _download(root)
    tree = _find_tree(root)
    notes: tuple[str, ...] = ()
    if tree is not None and _has_lists(tree, train_list):
        parts = _read_devkit(tree, train_list, root)
    elif tree is not None:
        parts, notes = _read_without_lists(tree)
    elif not root.is_dir():
        raise missing_folder(root, _EXPECTED)
    elif not any((root / folder).is_dir() for folder in _FOUR.split(", ")):
        raise wrong_layout(root, _EXPECTED)
    elif train_list != "train":
        raise UserError(
            f"dataset.train_list={train_list} needs the devkit's lists, which {root} does not have: use train."
        )
    else:
        parts = {
            split: pair_folders(root / f"{folder}_images", root / f"{folder}_labels", _FOUR)
            for split, folder in (("train", "train"), ("val", "valid"))
        }
    classes, listed = _read_classes(dict.fromkeys((tree or root, root)))
    ignored = () if IGNORE_COLOUR in classes.palette else (IGNORE_COLOUR,)
    decoder = LabelMask(
        IndexMask(classes),
        ColourMask(classes, ignored),
        any_with_eight_bits(next(iter(parts.values())).masks),
    )
    files = with_masks(parts, decoder)
    if WHOLE in parts:
        return FoundFiles(classes, files, (*notes, *listed))
    notes = (_NO_TEST, *((_TRAINVAL,) if train_list == "trainval" else ()), *listed)
    return FoundFiles(classes, {**files, "test": files["val"]}, notes, overlapping=train_list == "trainval")


def _read_classes(folders: Iterable[Path]) -> tuple[Classes, tuple[str, ...]]:
    """VOC's classes, or those of a list that a labelling tool left in one of the folders, and a note of it.

    A line is a name, or in CVAT's labelmap.txt NAME:R,G,B and more.
    """
    paths = [path for folder in folders for name in _LISTS if (path := folder / name).is_file()]
    lists = {path: _read_list_of_classes(path) for path in paths}
    for path, classes in lists.items():
        if classes.names != lists[paths[0]].names:
            raise UserError(f"{paths[0]} and {path} list different classes: delete the wrong one.")
    if not paths or lists[paths[0]].names == NAMES:
        return Classes(NAMES), ()
    classes = lists[paths[0]]
    return classes, (f"The classes are the {len(classes)} of {paths[0].name}, not PASCAL VOC's 21.",)


def _read_list_of_classes(path: Path) -> Classes:
    lines = [line.strip() for line in read_text(path).splitlines()]
    rows = [line.split(":") for line in lines if line and line[0] != "#" and line != "__ignore__"]
    names = tuple("background" if row[0] in _BACKGROUND else row[0] for row in rows)
    if names == NAMES[1:]:  # a list for detection, where the background is no class
        return Classes(NAMES)
    if path.name != "labelmap.txt" and names[:1] != ("background",):
        raise UserError(
            f"{path} lists no background, so label 0 is unclear: name it in the first line, or delete the file."
        )
    try:
        coloured = path.name == "labelmap.txt"
        palette = tuple(_colour(row[1]) for row in rows) if coloured else voc_palette(len(names))
        return Classes(names, palette)
    except (UserError, ValueError, IndexError) as error:
        cause = str(error) if isinstance(error, UserError) else "write NAME:R,G,B:: in each line."
        raise UserError(f"{path}: {cause}") from error


def _colour(text: str) -> Colour:
    red, green, blue = map(int, text.split(","))
    return red, green, blue


def _find_tree(root: Path) -> Path | None:
    folders = (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012")
    return next((folder for folder in folders if (folder / "JPEGImages").is_dir()), None)


def _has_lists(tree: Path, train_list: str) -> bool:
    """Whether the devkit's lists are there; CVAT leaves one called default.txt."""
    lists = tree / "ImageSets" / "Segmentation"
    return train_list != "train" or any((lists / f"{name}.txt").is_file() for name in ("train", "val"))


def _read_without_lists(tree: Path) -> tuple[dict[str, Pairs], tuple[str, ...]]:
    """All masks with their images; older versions of labelme save them in SegmentationClassPNG, and arrays beside."""
    images = list_files(tree / "JPEGImages", _DEVKIT)
    folders = (tree / "SegmentationClassPNG", tree / "SegmentationClass")
    masks = list_files(next((folder for folder in folders if folder.is_dir()), folders[1]), _DEVKIT)
    indices = images.find(masks.stems)
    alone = Names(masks.stems[indices < 0])
    if len(alone):
        raise UserError(
            f"{len(alone)} of {len(masks)} masks in {masks.folder} have no image of the same name in {images.folder} "
            f"({first_of(alone)}): add the images or remove the masks."
        )
    without = len(images) - len(masks)
    notes = (f"{without} of {len(images)} images have no mask and are left out.",) if without else ()
    return {WHOLE: Pairs.of(images.take(indices), masks)}, notes


def _read_devkit(tree: Path, train_list: str, root: Path) -> dict[str, Pairs]:
    images = list_files(tree / "JPEGImages", _DEVKIT)
    masks = list_files(tree / "SegmentationClass", _DEVKIT)
    more = _with_sbd(tree, masks, root) if train_list == "trainaug" else masks
    lists = tree / "ImageSets" / "Segmentation"
    return {
        "train": _read_list(lists / f"{train_list}.txt", images, more),
        "val": _read_list(lists / "val.txt", images, masks),
    }


def _with_sbd(tree: Path, masks: Listing, root: Path) -> Listing:
    """The masks of SegmentationClassAug; where it is missing, VOC's and SBD's .mat files of all other images."""
    folders = (place / folder for place in (root, tree) for folder in _SBD)
    folder = next((folder for folder in folders if folder.is_dir()), None)
    if (tree / _AUGMENTED).is_dir() or folder is None:
        return list_files(tree / _AUGMENTED, _WITH_SBD)
    sbd = list_files(folder, _WITH_SBD, {"mat"})
    sbd = sbd.take(np.flatnonzero(masks.find(sbd.stems) < 0))
    both = (*map(masks.path, range(len(masks))), *map(sbd.path, range(len(sbd))))
    files = listing_of(root, (path.relative_to(root).as_posix() for path in both))
    files = replace(files, stems=np.concatenate([masks.stems, sbd.stems]))
    return files.take(np.argsort(files.stems))


def _read_list(path: Path, images: Listing, masks: Listing) -> Pairs:
    if not path.is_file():
        raise UserError(f"There is no list {path}. Expected: {_DEVKIT}.")
    lines = read_text(path, LIST_BYTES, "surrogateescape").splitlines()
    numbered = [(number, composed(name)) for number, line in enumerate(lines, 1) if (name := line.strip())]
    if not numbered:
        raise UserError(f"{path} lists no names: write one per line, without file name ending.")
    stems = encode_names(name for _, name in numbered)
    image_indices, mask_indices = images.find(stems), masks.find(stems)
    seen: set[str] = set()
    for (number, name), image, mask in zip(numbered, image_indices, mask_indices, strict=True):
        for kind, index in (("image in JPEGImages", image), (f"mask in {masks.folder.name}", mask)):
            if index < 0:
                has_ending = name.rpartition(".")[2].lower() in IMAGE_ENDINGS
                cure = "write names without endings" if has_ending else "add it or delete the line"
                raise UserError(f"{path}, line {number}: '{name}' has no {kind}: {cure}.")
        if name in seen:
            raise UserError(f"{path}, line {number}: '{name}' is listed twice: delete the line.")
        seen.add(name)
    return Pairs.of(images.take(image_indices), masks.take(mask_indices))


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
