"""The evaluation protocol: how and on which images scores are measured, as plain data for `report.json`."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from segmentation.data.dataset import SegmentationDataset
from segmentation.errors import UserError
from segmentation.reading import file_hash
from segmentation.types import IGNORE_INDEX

SCORED_AT = "the size of each mask file; logits are resized to it, bilinear, corners not aligned"

RESIZED_BY = "bilinear, or averaged over areas where a side shrinks to less than half"

CHECKPOINT_ENTRIES = frozenset(
    {"input", "threshold", "threshold_source", "temperature", "checkpoint", "checkpoint_sha256"}
)
"""Entries of a protocol that belong to the checkpoint and may differ in a comparison."""

IGNORED_DATA = frozenset({"images", "notes", "train", "download", "split", "fractions", "fold"})
"""Entries of a report's data that do not describe the images of a score, or only as their hash does."""


def protocol(
    dataset: SegmentationDataset,
    *,
    size: tuple[int, int],
    resize: bool,
    threshold: float,
    tile: int | None = None,
) -> dict[str, Any]:
    """The protocol of a training run's scores, as plain data."""
    binary = dataset.classes.binary
    given = f"resized to {size[0]}x{size[1]}, {RESIZED_BY}" if resize else "the image's own size"
    part = "image" if tile is None else "image, or block of an image predicted by tiles,"
    if tile is not None:
        given += f"; larger ones by tiles of {tile} pixels that blend over {tile // 8}"
    if dataset.pixel_range is not None:
        given += f"; values of more than 8 bits from {dataset.pixel_range}"
    return {
        "scored_at": SCORED_AT,
        "input": given,
        "counts": "one confusion matrix over all pixels of the split",
        "miou": "mean over the classes that occur in truth or prediction; the others do not count",
        "binary_scores": "of the foreground" if binary else None,
        "threshold": threshold if binary else None,
        "ignore_index": IGNORE_INDEX,
        "loss": f"of each {part} at its mask's size, averaged with its valid pixels as weights",
        "test_time_augmentation": "none",
        "split_sha256": {split: split_hash(names) for split, names in dataset.names().items()},
    }


def evaluation_protocol(
    dataset: SegmentationDataset,
    dataset_options: Mapping[str, Any],
    split: str,
    *,
    size: tuple[int, int],
    resize: bool,
    threshold: float,
    tta: str,
    checkpoints: Sequence[Path],
    tile: int | None = None,
) -> dict[str, Any]:
    """The protocol of evaluating one model on one split, with the hash of each of its checkpoint files."""
    rules = protocol(dataset, size=size, resize=resize, threshold=threshold, tile=tile)
    del rules["loss"]
    return rules | {
        "means": "over classes where defined; image_* scores: of each image, then mean or median over images",
        "test_time_augmentation": tta,
        "dataset": with_absolute_root(dataset_options),
        "classes": list(dataset.classes.names),
        "split": split,
        "split_sha256": rules["split_sha256"][split],
        "checkpoint": ", ".join(map(str, checkpoints)),
        "checkpoint_sha256": ", ".join(map(file_hash, checkpoints)),
    }


def split_notes(split: str, digest: str, trained: Mapping[str, Any]) -> list[str]:
    """What to know about scores on this split, whose hash is `digest`, of a model with the protocol `trained`."""
    known = trained.get("split_sha256", {})
    if split == "train":
        return [
            "These are images of the train split: the scores do not show how the model does on new images."
        ]
    if known.get(split) == digest:
        return []
    there = known.get(split, "unknown")
    return [
        f"The {split} split is not the one of the training (its hash is {digest}, there {there}): "
        "make sure that no image of the training is in it."
    ]


def refuse_different(protocols: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise `UserError` where checkpoints (keys: paths) are evaluated by different rules or on different images."""
    first, *others = protocols
    for other in others:
        for key in {**protocols[first], **protocols[other]}:
            one, two = protocols[first].get(key), protocols[other].get(key)
            if key not in CHECKPOINT_ENTRIES and one != two:
                raise UserError(
                    f"{first} and {other} cannot be compared: their {key} differ ({one} and {two}). "
                    "Evaluate them one by one, or give dataset=NAME dataset.root=PATH for all."
                )


def split_hash(names: Iterable[str]) -> str:
    """A hash of the names of a split's images, independent of their order."""
    return hashlib.sha256("\n".join(sorted(names)).encode(errors="surrogateescape")).hexdigest()[:16]


def with_absolute_root(options: Mapping[str, Any]) -> dict[str, Any]:
    """A data set's options as plain data: a folder is the same in whatever way its path is written."""
    plain = {key: str(value) if isinstance(value, Path) else value for key, value in options.items()}
    if isinstance(root := plain.get("root"), str):
        plain["root"] = str(Path(root).expanduser().resolve())
    return plain
