"""Data sets with two classes, foreground and background, from folders of images and masks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from segmentation.data.binary_masks import BinaryMask, find_threshold
from segmentation.data.dataset import PairDataset, SegmentationDataset
from segmentation.data.splits import read_pairs
from segmentation.errors import UserError
from segmentation.types import Classes


def binary(
    channels: int = 3,
    *,
    root: Path,
    split: Path | None = None,
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    seed: int = 0,
    threshold: int | Literal["auto"] = "auto",
    ignore: int | None = None,
) -> SegmentationDataset:
    """`root` holds images/ and masks/, or both in each of train, val and test (or train_split, ...).

    Data without split folders is split by the file `split` (columns name, split), or else by `seed` and `fractions`
    (train, val, test). Mask values above `threshold` (0..254) are foreground; with "auto" all but 0 are, for masks of 0
    and one other value, and those above 127 for masks with soft edges, decided once for the data set. Pixels with the
    mask value `ignore` (0..255) are ignored. Images are read with `channels` bands.

    Raises `UserError` as `read_pairs` does, for masks of several values, and for options out of range.
    """
    if threshold != "auto" and not 0 <= threshold <= 254:
        raise UserError(
            f"dataset.threshold={threshold} is not within 0..254: foreground are the values above it."
        )
    if ignore is not None and not 0 <= ignore <= 255:
        raise UserError(f"dataset.ignore={ignore} is not a mask value: give 0..255, or null for none.")
    parts, notes = read_pairs(root, split, fractions, seed)
    if threshold == "auto":
        decoder, found = find_threshold(parts["train"], ignore)
        notes += found
    else:
        decoder = BinaryMask(threshold, ignore)
    classes = Classes(("background", "foreground"), binary=True)
    data = {name: PairDataset(pairs, decoder, channels) for name, pairs in parts.items()}
    return SegmentationDataset(
        classes, data["train"], data["val"], data["test"], notes=notes, channels=channels
    )
