"""images/ and masks/, or both in each of train, val and test: two classes (`binary`) or several (`folder`)."""

from pathlib import Path
from typing import Literal

from segmentation.data.binary_masks import BinaryMask, check_threshold, find_threshold
from segmentation.data.class_map import ClassOptions, mask_decoder
from segmentation.data.dataset import WHOLE, FileDataset, FoundFiles, MaskFiles
from segmentation.data.files import Pairs, contents, missing_folder, pair_folders, wrong_layout
from segmentation.data.masks import MaskDecoder
from segmentation.data.splits import SPLITS
from segmentation.errors import UserError
from segmentation.types import Classes

_EXPECTED = "images/ and masks/, or {train,val,test}/{images,masks}, or {train,val,test}_split/{images,masks}"


def binary(*, root: Path, threshold: int | Literal["auto"] = "auto", ignore: int | None = None) -> FoundFiles:
    """Two classes, background and foreground; `root` is laid out as `read_folders` says.

    Mask values above `threshold` (0..254) are foreground; with "auto" all but 0 are, for masks of 0 and one other
    value, and those above 127 for masks with soft edges, decided once for the data set. Pixels with the mask value
    `ignore` (0..255) are ignored.

    Raises `UserError` as `read_folders` does, for masks of several values, and for options out of range.
    """
    if threshold != "auto":
        check_threshold(threshold)
    if ignore is not None and not 0 <= ignore <= 255:
        raise UserError(f"dataset.ignore={ignore} is not a mask value: give 0..255, or null for none.")
    parts = read_folders(root)
    notes: tuple[str, ...] = ()
    if threshold == "auto":
        decoder, notes = find_threshold(next(iter(parts.values())).masks, ignore)
    else:
        decoder = BinaryMask(threshold, ignore)
    classes = Classes(("background", "foreground"), binary=True)
    return FoundFiles(classes, with_masks(parts, decoder), notes)


def folder(described: ClassOptions, /, *, root: Path) -> FoundFiles:
    """Several classes, described by the options or by the classes.yaml in `root`, which is laid out as for `binary`.

    Raises `UserError` as `read_folders` does, and for an invalid description of the classes.
    """
    parts = read_folders(root)
    class_map = described.read(root)
    decoder = mask_decoder(class_map, next(iter(parts.values())).masks)
    return FoundFiles(class_map.classes, with_masks(parts, decoder))


def with_masks(parts: dict[str, Pairs], decoder: MaskDecoder) -> dict[str, FileDataset]:
    """The samples of pairs whose masks are read by the decoder."""
    return {part: FileDataset(pairs.images, MaskFiles(pairs.masks, decoder)) for part, pairs in parts.items()}


def read_folders(root: Path) -> dict[str, Pairs]:
    """The pairs of train, val and perhaps test, or of the `WHOLE`.

    `root` holds images/ and masks/, or both in each of train, val and test (or train_split, ...).

    Raises `UserError` for another layout, and for an image without mask or a mask without image.
    """
    suffix = _find_layout(root)
    if suffix is None:
        return {WHOLE: pair_folders(root / "images", root / "masks", _EXPECTED)}
    expected = f"{{train,val,test}}{suffix}/{{images,masks}}; test may be left out"
    folders = {split: root / f"{split}{suffix}" for split in SPLITS}
    if not folders["test"].is_dir():
        del folders["test"]
    return {
        split: pair_folders(place / "images", place / "masks", expected) for split, place in folders.items()
    }


def _find_layout(root: Path) -> str | None:
    """The suffix of the split folders ("" or "_split"); None for data without split folders."""
    if not root.is_dir():
        raise missing_folder(root, _EXPECTED)
    found = [suffix for suffix in ("", "_split") if (root / f"train{suffix}").is_dir()]
    flat = [(root / name).is_dir() for name in ("images", "masks")]
    if len(found) + all(flat) > 1:
        raise UserError(f"{root} holds several data sets ({contents(root)}): keep one of {_EXPECTED}.")
    if not found and not any(flat):
        raise wrong_layout(root, _EXPECTED)
    return found[0] if found else None
