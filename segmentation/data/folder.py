"""Data sets with several classes from folders of images and masks, described by a classes.yaml or by options."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segmentation.data.class_map import parse_class_map, read_class_map
from segmentation.data.dataset import PairDataset, SegmentationDataset
from segmentation.data.masks import ColourMask, IndexMask, LabelMask, any_with_eight_bits
from segmentation.data.splits import read_pairs
from segmentation.errors import UserError


def folder(
    channels: int = 3,
    *,
    root: Path,
    classes: Path | None = None,
    names: list[Any] | dict[Any, Any] | None = None,
    labels: dict[Any, Any] | None = None,
    ignore: Sequence[Any] = (),
    split: Path | None = None,
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    seed: int = 0,
) -> SegmentationDataset:
    """`root` holds images/ and masks/, or both in each of train, val and test, divided as by `binary`.

    Images are read with `channels` bands. The classes are described by the keys names, colours, labels and ignore of
    the file `classes` (default: classes.yaml in `root`), or by the options: `names` is a list or a mapping of names to
    [R, G, B], `labels` maps the values in the masks to names (without, they are 0, 1, ...), `ignore` lists further
    labels (0..65535) and colours of ignored pixels.

    Raises `UserError` as `read_pairs` does, and for an invalid description of the classes.
    """
    described = {key: value for key, value in (("names", names), ("labels", labels)) if value is not None}
    if described and classes is not None:
        raise UserError(
            f"dataset.{next(iter(described))} and dataset.classes={classes} both describe the classes: give one."
        )
    parts, notes = read_pairs(root, split, fractions, seed)
    path = classes or root / "classes.yaml"
    class_map = (
        parse_class_map(described, "dataset", ignore)
        if described
        else parse_class_map(read_class_map(path), str(path), ignore)
    )
    decoder = LabelMask(
        IndexMask(class_map.classes, class_map.ignored_labels, class_map.labels),
        ColourMask(class_map.classes, class_map.ignored_colours) if class_map.coloured else None,
        any_with_eight_bits(parts["train"]),
    )
    data = {split: PairDataset(pairs, decoder, channels) for split, pairs in parts.items()}
    return SegmentationDataset(
        class_map.classes, data["train"], data["val"], data["test"], notes=notes, channels=channels
    )
