"""Checks of a data set before a run: errors, and notes on what only its owner can judge."""

import numpy as np

from segmentation.data.dataset import FileDataset, MaskFiles, Samples, SegmentationDataset, areas_of
from segmentation.data.files import evenly_spaced
from segmentation.data.findings import Finding, absent_classes, label_findings, turned_images
from segmentation.data.image_io import present_values, read_orientation
from segmentation.data.windows import Windowed
from segmentation.errors import UserError
from segmentation.types import Classes

CHECKED = 16
"""The number of samples per split that are read."""

_SEARCHED = 128  # training masks in which a class is looked for that those samples do not hold
_DOUBTED = 1024  # masks in which labels are looked for, where those of the samples look wrong
_HEADERS = 512  # images whose headers are read


def check_samples(dataset: SegmentationDataset) -> tuple[str, ...]:
    """Reads samples spread over each split, so that errors in the data are found before the first step.

    Returns notes, as those of the data set. Samples check their own files when they are read, including the number of
    bands. This function also raises `UserError` for an empty split, for a split in which all pixels are ignored, for
    masks of 0/255 in data with several classes, and where all training masks hold a single class.
    """
    checked: list[Samples] = []
    notes: list[Finding] = []
    for split, samples in dataset.splits().items():
        if not len(samples):
            raise UserError(f"The {split} split has no images: every split needs at least one.")
        if samples in checked:  # val may serve as test
            continue
        checked.append(samples)
        indices = evenly_spaced(len(samples), CHECKED)
        labels = {label for index in indices for label in present_values(samples[index]["mask"])}
        for finding in _label_findings(split, samples, labels, dataset.classes):
            if len(samples) <= _DOUBTED:
                raise UserError(finding.message, kind=finding.id)
            notes.append(finding)
        if split == "train":
            for finding in _absent_classes(samples, dataset.classes, labels):
                if finding.severity == "error":
                    raise UserError(finding.message, kind=finding.id)
                notes.append(finding)
        if isinstance(samples, FileDataset):
            looked = evenly_spaced(len(samples), _HEADERS)
            turned = [samples.names[index] for index in looked if is_turned_unseen(samples, index)]
            notes += turned_images(split, turned, len(looked), len(samples))
    return tuple(finding.message for finding in notes)


def _label_findings(split: str, samples: Samples, labels: set[int], classes: Classes) -> list[Finding]:
    """What is wrong with the labels: further masks are read as long as anything is, because classes may be rare."""
    found = label_findings(split, labels, CHECKED, classes)
    looked = evenly_spaced(len(samples), _DOUBTED) if found else []
    for index in looked:
        labels = labels | set(present_values(_mask(samples, index)))
        if not (found := label_findings(split, labels, len(looked), classes)):
            break
    # 255 is what has no data or lies outside the extent: no value of a file.
    areas = bool(found) and any(areas_of(samples))
    return [each for each in found if not (each.id == "binary-values" and areas)]


def _mask(samples: Samples, index: int) -> np.ndarray:
    return samples.mask(index) if isinstance(samples, Windowed) else samples[index]["mask"]


def _absent_classes(train: Samples, classes: Classes, labels: set[int]) -> list[Finding]:
    """Classes that the training masks do not hold; masks are read only as long as one is missing."""
    absent = set(range(len(classes))) - labels
    indices = evenly_spaced(len(train), _SEARCHED)
    for index in indices:
        if not absent:
            return []
        absent -= set(present_values(_mask(train, index)))
    whole = len(indices) == len(train)
    masks = (
        f"The {len(train)} train masks"
        if whole
        else f"{len(indices)} of {len(train)} train masks, evenly spaced,"
    )
    return absent_classes("train", absent, masks, classes, whole=whole)


def is_turned_unseen(samples: FileDataset, index: int) -> bool:
    """Whether EXIF orientation turns an image, and not its mask file, while it keeps its size."""
    orientation, (height, width) = read_orientation(samples.images.path(index))
    if orientation == 1 or (orientation > 4 and height != width):
        return False
    return isinstance(samples.labels, MaskFiles) and (
        read_orientation(samples.labels.path(index))[0] != orientation
    )
