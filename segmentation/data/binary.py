"""Data sets with two classes, foreground and background, from folders of images and masks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from segmentation.data.dataset import PairDataset, SegmentationDataset
from segmentation.data.files import Pairs, contents, missing_folder, pair_folders
from segmentation.data.masks import BinaryMask, find_threshold
from segmentation.data.splits import read_presplit, read_split, split_names
from segmentation.errors import UserError
from segmentation.types import Classes

_EXPECTED = "images/ and masks/, or {train,val,test}/{images,masks}, or {train,val,test}_split/{images,masks}"


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
    (train, val, test). Mask values above `threshold` (0..254) are foreground; "auto" is 0 for masks of 0/1
    and 127 for masks of 0/255, decided once for the data set. Pixels with the mask value `ignore` (0..255) are
    ignored. Images are read with `channels` bands.

    Raises `UserError` for another layout, for an image without mask or a mask without image, for a `split` file
    although there are split folders, and for options out of range.
    """
    if threshold != "auto" and not 0 <= threshold <= 254:
        raise UserError(
            f"dataset.threshold={threshold} is not within 0..254: foreground are the values above it."
        )
    if ignore is not None and not 0 <= ignore <= 255:
        raise UserError(f"dataset.ignore={ignore} is not a mask value: give 0..255, or null for none.")
    suffix = _find_layout(root)
    notes: tuple[str, ...] = ()
    if suffix is None:
        parts = _divide(root, split, fractions, seed)
    elif split is not None:
        raise UserError(
            f"dataset.split={split} cannot be used: {root} already has split folders. Leave it out."
        )
    else:
        parts, notes = read_presplit(root, suffix=suffix)
    decoder = find_threshold(parts["train"], ignore) if threshold == "auto" else BinaryMask(threshold, ignore)
    classes = Classes(("background", "foreground"), binary=True)
    data = {name: PairDataset(pairs, decoder, channels) for name, pairs in parts.items()}
    return SegmentationDataset(classes, **data, notes=notes, channels=channels)


def _find_layout(root: Path) -> str | None:
    """The suffix of the split folders ("" or "_split"); None for data without split folders."""
    if not root.is_dir():
        raise missing_folder(root, _EXPECTED)
    found = [suffix for suffix in ("", "_split") if (root / f"train{suffix}").is_dir()]
    flat = any((root / folder).is_dir() for folder in ("images", "masks"))
    if len(found) + flat > 1:
        raise UserError(f"{root} holds several data sets ({contents(root)}): keep one of {_EXPECTED}.")
    if not found and not flat:
        raise UserError(f"{root} holds {contents(root)}. Expected: {_EXPECTED}.")
    return found[0] if found else None


def _divide(root: Path, split: Path | None, fractions: Sequence[float], seed: int) -> dict[str, Pairs]:
    pairs = pair_folders(root / "images", root / "masks", _EXPECTED)
    if split is None:
        return pairs.divide(split_names(pairs.names, fractions=fractions, seed=seed))
    return pairs.divide(read_split(split, pairs.names))
