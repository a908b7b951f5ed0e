"""Public data sets as they are downloaded: Cityscapes, ADE20K, the Oxford pets, and the Data Science Bowl of 2018."""

import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from segmentation.data.binary_masks import BinaryMask
from segmentation.data.class_map import ClassOptions, mask_decoder
from segmentation.data.dataset import WHOLE, FileDataset, FoundFiles
from segmentation.data.files import (
    ENDINGS,
    IMAGE_ENDINGS,
    Names,
    Pairs,
    encode_names,
    first_of,
    listing_of,
    missing_folder,
    wrong_layout,
)
from segmentation.data.layouts.folders import with_masks
from segmentation.data.layouts.pairs import read_pairs, walk
from segmentation.data.masks import IndexMask, LabelMask
from segmentation.data.recognise import ADE20K_IN_FULL
from segmentation.errors import UserError
from segmentation.reading import read_text
from segmentation.types import Classes

_NO_TEST = "{} publishes no test masks: val is used as test."

# Id, name and colour of the 19 classes that are evaluated, in the order of the train ids: helpers/labels.py of
# github.com/mcordts/cityscapesScripts (Cordts et al. 2016). All other ids are ignored.
_CITYSCAPES = (
    (7, "road", (128, 64, 128)),
    (8, "sidewalk", (244, 35, 232)),
    (11, "building", (70, 70, 70)),
    (12, "wall", (102, 102, 156)),
    (13, "fence", (190, 153, 153)),
    (17, "pole", (153, 153, 153)),
    (19, "traffic light", (250, 170, 30)),
    (20, "traffic sign", (220, 220, 0)),
    (21, "vegetation", (107, 142, 35)),
    (22, "terrain", (152, 251, 152)),
    (23, "sky", (70, 130, 180)),
    (24, "person", (220, 20, 60)),
    (25, "rider", (255, 0, 0)),
    (26, "car", (0, 0, 142)),
    (27, "truck", (0, 0, 70)),
    (28, "bus", (0, 60, 100)),
    (31, "train", (0, 80, 100)),
    (32, "motorcycle", (0, 0, 230)),
    (33, "bicycle", (119, 11, 32)),
)
_IDS = 34  # from 0


def cityscapes(*, root: Path, masks: Literal["auto", "labelIds", "labelTrainIds"] = "auto") -> FoundFiles:
    """The 19 classes that are evaluated; val is used as test.

    `root` holds leftImg8bit/ and gtFine/. `masks` names the files: as downloaded (labelIds), or made by Cityscapes'
    scripts (labelTrainIds); "auto" takes labelIds where there are any.

    Raises `UserError` for another layout and where `read_pairs` does.
    """
    expected = "leftImg8bit/{train,val}/CITY and gtFine/{train,val}/CITY"
    _check_layout(root, expected, "leftImg8bit", "gtFine")
    if masks == "auto":
        masks = "labelIds" if any(root.glob("gtFine/train/*/*_gtFine_labelIds.png")) else "labelTrainIds"
    parts = read_pairs(
        root, "leftImg8bit/{train,val}/*/*_leftImg8bit.png", f"gtFine/{{1}}/{{2}}/{{3}}_gtFine_{masks}.png"
    )
    classes = Classes(
        tuple(name for _, name, _ in _CITYSCAPES), tuple(colour for _, _, colour in _CITYSCAPES)
    )
    if masks == "labelTrainIds":
        values = IndexMask(classes)
    else:
        labels = {label: index for index, (label, _, _) in enumerate(_CITYSCAPES)}
        others = tuple(label for label in range(_IDS) if label not in labels)
        values = IndexMask(classes, others, tuple(labels.items()))
    return _without_test("Cityscapes", classes, parts, LabelMask(values, None, eight_bits=True))


def ade20k(*, root: Path) -> FoundFiles:
    """The 150 classes of ADE20K's scene parsing (Zhou et al. 2017); 0, other objects, is ignored. Val is used as test.

    `root` holds images/{training,validation} and annotations/{training,validation}, directly or in
    ADEChallengeData2016. The classes are named by objectInfo150.txt if it is there, else numbered.

    Raises `UserError` for another layout, as that of the full release, for a list of other length, and where
    `read_pairs` does.
    """
    if any(any(root.glob(pattern)) for pattern in ADE20K_IN_FULL):
        raise UserError(
            f"{root} holds the full release of ADE20K, whose *_seg.png tell 3000 classes apart, with more values than"
            " a mask can have: download ADEChallengeData2016 of the scene parsing, with 150 classes, from"
            " http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip."
        )
    inner = root / "ADEChallengeData2016"
    tree = inner if inner.is_dir() else root
    _check_layout(
        tree, "images/{training,validation} and annotations/{training,validation}", "images", "annotations"
    )
    parts = read_pairs(tree, "images/{training,validation}/*", "annotations/{1}/{2}.png")
    names = _ade_names(tree / "objectInfo150.txt")
    labels = dict(enumerate(names, 1))
    class_map = ClassOptions(labels=labels, ignore=[0]).read(tree)
    decoder = mask_decoder(class_map, next(iter(parts.values())).masks)
    return _without_test("ADE20K's scene parsing", class_map.classes, parts, decoder)


def _ade_names(path: Path) -> list[str]:
    if not path.is_file():
        return [f"class {number}" for number in range(1, 151)]
    lines = [line.split("\t") for line in read_text(path).splitlines() if line[:1].isdecimal()]
    full = [line[-1].strip() for line in lines]
    short = [name.replace(";", ",").partition(",")[0] for name in full]
    names = [one if short.count(one) == 1 else other for one, other in zip(short, full, strict=True)]
    if len(set(names)) != 150:
        raise UserError(
            f"{path} names {len(set(names))} classes, not 150: take the one of ADE20K, or delete it."
        )
    return names


def pets(*, root: Path) -> FoundFiles:
    """Background and pet of the Oxford-IIIT pets (Parkhi et al. 2012); the border between them is ignored.

    `root` holds images/, annotations/trimaps/ (1 pet, 2 background, 3 border) and annotations/{trainval,test}.txt. A
    part of trainval becomes val.

    Raises `UserError` for another layout, for a listed name without image or trimap, and where `read_pairs` does.
    """
    expected = "images/, annotations/trimaps/ and annotations/{trainval,test}.txt"
    _check_layout(root, expected, "images", "annotations/trimaps")
    whole = next(
        iter(read_pairs(root, "images/*", "annotations/trimaps/{stem}.png", split_folders=False).values())
    )
    parts = {
        part: _listed(root / "annotations" / f"{name}.txt", whole, expected)
        for part, name in (("train", "trainval"), ("test", "test"))
    }
    classes = Classes(("background", "pet"), binary=True)
    decoder = LabelMask(IndexMask(classes, (3,), ((1, 1), (2, 0))), None)
    left = len(whole) - sum(map(len, parts.values()))
    notes = (f"{left} images are in neither list and left out.",) if left > 0 else ()
    return FoundFiles(classes, with_masks(parts, decoder), notes)


def _listed(path: Path, whole: Pairs, expected: str) -> Pairs:
    """The pairs that a list names with the first word of each line."""
    if not path.is_file():
        raise UserError(f"There is no list {path}. Expected: {expected}.")
    lines = [line.split() for line in read_text(path).splitlines()]
    names = [words[0] for words in lines if words and not words[0].startswith("#")]
    if not names or len(set(names)) < len(names):
        raise UserError(f"{path} lists {'a name twice' if names else 'no names'}: correct it.")
    indices = whole.images.find(encode_names(names))
    missing = [name for name, index in zip(names, indices, strict=True) if index < 0]
    if missing:
        raise UserError(f"{path}: '{missing[0]}' has no image: add it or delete the line.")
    indices = np.sort(indices)
    return Pairs(whole.images.take(indices), whole.masks.take(indices))


def _check_layout(root: Path, expected: str, *folders: str) -> None:
    if not root.is_dir():
        raise missing_folder(root, expected)
    if not all((root / folder).is_dir() for folder in folders):
        raise wrong_layout(root, expected)


def _without_test(name: str, classes: Classes, parts: dict[str, Pairs], decoder: LabelMask) -> FoundFiles:
    files = with_masks(parts, decoder)
    if set(files) != {"train", "val"}:
        raise UserError(f"{name} needs images for train and val: add the missing ones.")
    return FoundFiles(classes, {**files, "test": files["val"]}, (_NO_TEST.format(name),))


_EXPECTED_REGIONS = "a folder for each image, with images/NAME.png and one file in masks/ for each object"
_REGION = BinaryMask(threshold=0)


@dataclass(frozen=True, eq=False)
class RegionFiles:
    """The union of the files in a folder for each image."""

    root: Path
    folders: np.ndarray  # encoded paths in root

    def path(self, index: int) -> Path:
        """The folder."""
        return self.root / Names(self.folders)[index]

    def mask(self, index: int, size: tuple[int, int]) -> np.ndarray:
        """1 where any of the files is not 0. Raises `UserError` as `BinaryMask.decode`, and for different sizes."""
        union = np.zeros(size, np.uint8)
        for path in self._files(index):
            region = _REGION.decode(path)
            if region.shape != size:
                return region  # the caller reports the size
            union |= region
        return union

    def take(self, indices: np.ndarray) -> "RegionFiles":
        """The folders at these indices."""
        return replace(self, folders=self.folders[indices])

    def fingerprint(self) -> str:
        """The sizes and modification times of all files."""
        state = hashlib.sha256()
        for index in range(len(self.folders)):
            for path in self._files(index):
                status = path.stat()
                state.update(f"{path.name}\0{status.st_size} {status.st_mtime_ns}\0".encode(errors="replace"))
        return state.hexdigest()

    def _files(self, index: int) -> list[Path]:
        """The files; none for an image without objects."""
        paths = sorted(self.path(index).glob("*.*"))
        return [path for path in paths if path.suffix[1:].lower() in ENDINGS]


def regions(*, root: Path) -> FoundFiles:
    """Two classes, background and foreground; an image whose masks/ is empty is background.

    Raises `UserError` for another layout, for a folder without masks/ and for one with several images.
    """
    if not root.is_dir():
        raise missing_folder(root, _EXPECTED_REGIONS)
    if not any(root.glob("*/images")):
        raise wrong_layout(root, _EXPECTED_REGIONS)
    images = [file.path for file in walk(root) if file.folder.split("/")[1:] == ["images"]]
    if not images:
        endings = " ".join(sorted(IMAGE_ENDINGS))
        raise UserError(f"{root}: no images/ in it holds a picture ({endings}): save them so.", kind="layout")
    folders = Counter(path.split("/")[0] for path in images)
    without = [folder for folder in folders if not (root / folder / "masks").is_dir()]
    several = [folder for folder, count in folders.items() if count > 1]
    for wrong, what, cure in (
        (without, "have no masks/", "add it"),
        (several, "hold several images", "keep one in each"),
    ):
        if wrong:
            raise UserError(
                f"{len(wrong)} of {len(folders)} folders in {root} {what} ({first_of(wrong)}): {cure}."
            )
    masks = RegionFiles(root, encode_names(f"{folder}/masks" for folder in folders))
    classes = Classes(("background", "foreground"), binary=True)
    return FoundFiles(classes, {WHOLE: FileDataset(listing_of(root, images), masks)})
