"""What can be wrong with data: each kind of fault by its id, and the rules that a run and the doctor share."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from segmentation.data.files import first_of
from segmentation.types import IGNORE_INDEX, Classes

Severity = Literal["error", "warning", "note"]
"""error: training would end, or learn or score what is wrong; warning: look at it; note: good to know."""

KINDS: dict[str, tuple[Severity, str]] = {
    "layout": ("error", "the folder or its classes cannot be read as this data set"),
    "split": ("error", "the images cannot be divided into train, val and test as the options ask"),
    "missing-partner": ("error", "an image has no mask, or a mask no image"),
    "mask-per-region": ("error", "several mask files belong to one image, one for each region"),
    "unreadable": ("error", "a file is missing, empty, truncated or not an image"),
    "size-mismatch": ("error", "a mask has another size than its image, also by EXIF orientation"),
    "bands": ("error", "an image has another number of bands than data.channels"),
    "lossy-mask": ("error", "a mask is a JPEG, which blurs labels into each other"),
    "label-range": ("error", "a mask holds a value that is no class and is not ignored"),
    "mask-colours": ("error", "a mask holds colours or a mode that do not say which class is meant"),
    "mask-values": ("error", "masks hold values that contradict each other: 0/1, 0/255, several levels"),
    "binary-values": ("error", "masks of 0/255 in data of several classes, where 255 is ignored"),
    "all-ignored": ("error", "every labelled pixel of a split is ignored"),
    "no-background": (
        "error",
        "sparse labels without a pixel of background: everything would become foreground",
    ),
    "one-class": ("error", "the training masks hold a single class, so there is nothing to tell apart"),
    "duplicate-across-splits": ("error", "the same image is in two splits: scores would be too good"),
    "duplicate-other-mask": ("error", "the same image has two different masks"),
    "unusable": ("error", "a file cannot be used for another reason"),
    "changing-ids": ("warning", "the same id means different things in different masks"),
    "soft-mask": ("warning", "a binary mask is a JPEG, whose edges are guessed"),
    "turned-image": ("warning", "EXIF orientation turns an image and not its mask"),
    "absent-class": ("warning", "a class occurs in no mask of a split"),
    "ignored-mask": ("warning", "a mask is ignored as a whole"),
    "duplicate": ("warning", "the same image is in a split more than once"),
    "near-duplicate-across-splits": ("warning", "nearly the same image is in two splits"),
    "large-images": ("warning", "images are far larger than the size they would be resized to"),
    "near-duplicate": ("note", "nearly the same image is in a split more than once"),
    "empty-mask": ("note", "a mask holds background alone"),
    "odd-size": ("note", "an image is of quite another size than the others"),
    "small-objects": ("note", "a class's objects are smaller than a cell of the feature map"),
}
"""Of each id the severity, and what it means; in the order of reports."""


@dataclass(frozen=True)
class Finding:
    """A fault in the data: `text` says what and where, `cure` holds what to do, as options where there are some.

    `files` are those concerned, and `samples` (split, index) some of them, for pictures.
    """

    id: str
    text: str
    cure: tuple[str, ...] = ()
    files: Sequence[str] = field(default=(), repr=False)
    samples: Sequence[tuple[str, int]] = field(default=(), repr=False)

    @property
    def severity(self) -> Severity:
        """That of its id."""
        return KINDS[self.id][0]

    @property
    def message(self) -> str:
        """The text and the cure in a line, as a run says it."""
        return f"{self.text}: {' or '.join(self.cure)}." if self.cure else f"{self.text}."


def label_findings(split: str, labels: set[int], masks: int, classes: Classes) -> list[Finding]:
    """What is wrong with the labels, 255 among them, that occur in a number of a split's masks."""
    checked = f"the {masks} {split} masks that were checked"
    if labels == {IGNORE_INDEX}:
        cure = ("correct the masks or dataset.ignore",)
        return [Finding("all-ignored", f"All pixels are ignored in {checked}", cure)]
    if labels == {0, IGNORE_INDEX} and not classes.binary:
        text = f"{checked[0].upper()}{checked[1:]} hold only 0 and 255, and 255 is ignored"
        return [Finding("binary-values", text, ("use dataset=binary for masks of 0/255",))]
    return []


def absent_classes(
    split: str, absent: set[int], masks: str, classes: Classes, *, whole: bool = True
) -> list[Finding]:
    """Classes that `masks` (which, for the text) hold no pixel of; `whole` says that these are all masks."""
    if not absent:
        return []
    names = first_of([classes.names[label] for label in absent], 8)
    if len(absent) == len(classes) - 1 and split == "train" and whole:
        (only,) = set(range(len(classes))) - absent
        text = f"{masks} hold nothing but {classes.names[only]}"
        return [Finding("one-class", text, ("correct the masks, or what their values mean",))]
    text = f"{masks} hold no pixel of {names}"
    if 0 in absent and not classes.binary and split == "train":
        text += ". Where labels begin at 1, classes.yaml needs labels: {1: NAME, ...}"
    return [Finding("absent-class", text)]


def turned_images(split: str, names: Sequence[str], looked: int, images: int) -> list[Finding]:
    """Images that their EXIF orientation turns while they keep their size, which a wrong mask has, too.

    So many of the split's `images` were `looked` at.
    """
    if not len(names):
        return []
    seen = (
        f"{images} {split} images"
        if looked == images
        else f"the {looked} of {images} {split} images looked at"
    )
    return [
        Finding(
            "turned-image",
            f"EXIF orientation turns {len(names)} of {seen} without changing their size "
            f"({first_of(names)}): a mask that was drawn on the unturned image does not fit",
        )
    ]
