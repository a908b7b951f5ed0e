"""Checks of a data set before a run: errors, and notes on what only its owner can judge."""

from segmentation.data.dataset import FileDataset, MaskFiles, Samples, SegmentationDataset
from segmentation.data.files import evenly_spaced, first_of
from segmentation.data.image_io import present_values, read_orientation
from segmentation.errors import UserError
from segmentation.types import IGNORE_INDEX, Classes

CHECKED = 16
"""The number of samples per split that are read."""

_SEARCHED = 128  # training masks in which a class is looked for that those samples do not hold
_HEADERS = 512  # images whose headers are read


def check_samples(dataset: SegmentationDataset) -> tuple[str, ...]:
    """Reads samples spread over each split, so that errors in the data are found before the first step.

    Returns notes, as those of the data set. Samples check their own files when they are read, including the number of
    bands. This function also raises `UserError` for an empty split, for a split in which all pixels are ignored, and
    for masks of 0/255 in data with several classes.
    """
    checked: list[Samples] = []
    notes: list[str] = []
    for split, samples in dataset.splits().items():
        if not len(samples):
            raise UserError(f"The {split} split has no images: every split needs at least one.")
        if samples in checked:  # val may serve as test
            continue
        checked.append(samples)
        labels = _check_labels(split, samples, binary=dataset.classes.binary)
        if split == "train":
            notes += _absent_classes(samples, dataset.classes, labels)
        if isinstance(samples, FileDataset):
            notes += _turned_images(split, samples)
    return tuple(notes)


def _check_labels(split: str, samples: Samples, *, binary: bool) -> set[int]:
    """The labels in some samples."""
    indices = evenly_spaced(len(samples), CHECKED)
    labels = {label for index in indices for label in present_values(samples[index]["mask"])}
    if labels == {IGNORE_INDEX}:
        raise UserError(
            f"All pixels are ignored in the {len(indices)} {split} masks that were checked: "
            "correct the masks or dataset.ignore."
        )
    if labels == {0, IGNORE_INDEX} and not binary:
        raise UserError(
            f"The {len(indices)} {split} masks that were checked hold only 0 and 255, and 255 is ignored: "
            "use dataset=binary for masks of 0/255."
        )
    return labels


def _absent_classes(train: Samples, classes: Classes, labels: set[int]) -> list[str]:
    """A note of classes that the training masks do not hold; masks are read only as long as one is missing."""
    absent = set(range(len(classes))) - labels
    indices = evenly_spaced(len(train), _SEARCHED)
    for index in indices:
        if not absent:
            return []
        mask = train.mask(index) if isinstance(train, FileDataset) else train[index]["mask"]
        absent -= set(present_values(mask))
    if not absent:
        return []
    whole = len(indices) == len(train)
    masks = (
        f"The {len(train)} train masks"
        if whole
        else f"{len(indices)} of {len(train)} train masks, evenly spaced,"
    )
    names = first_of([classes.names[label] for label in absent], 8)
    first = (
        " Where labels begin at 1, classes.yaml needs labels: {1: NAME, ...}."
        if 0 in absent and not classes.binary
        else ""
    )
    return [f"{masks} hold no pixel of {names}.{first}"]


def _turned_images(split: str, samples: FileDataset) -> list[str]:
    """A note of images that their EXIF orientation turns while they keep their size, which a wrong mask has, too."""
    indices = evenly_spaced(len(samples), _HEADERS)
    turned = [index for index in indices if _is_turned_unseen(samples, index)]
    if not turned:
        return []
    names = first_of([samples.names[index] for index in turned])
    return [
        f"EXIF orientation turns {len(turned)} of {len(indices)} {split} images without changing their size ({names}): "
        "a mask that was drawn on the unturned image does not fit."
    ]


def _is_turned_unseen(samples: FileDataset, index: int) -> bool:
    orientation, (height, width) = read_orientation(samples.images.path(index))
    if orientation == 1 or (orientation > 4 and height != width):
        return False
    return isinstance(samples.labels, MaskFiles) and (
        read_orientation(samples.labels.path(index))[0] != orientation
    )
