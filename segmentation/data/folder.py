"""Data sets with several classes in {train,val,test}/{images,masks}, described by a classes.yaml or by options."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segmentation.data.class_map import parse_class_map, read_class_map
from segmentation.data.dataset import PairDataset, SegmentationDataset
from segmentation.data.masks import ColourMask, IndexMask, LabelMask
from segmentation.data.splits import read_presplit
from segmentation.errors import UserError


def folder(
    channels: int = 3,
    *,
    root: Path,
    classes: Path | None = None,
    names: list[Any] | dict[Any, Any] | None = None,
    ignore: Sequence[Any] = (),
) -> SegmentationDataset:
    """`root` holds train, val and possibly test, each with images/ and masks/. Images are read with `channels` bands.

    The classes are described by the keys names, colours and ignore of the file `classes` (default: classes.yaml in
    `root`), or by the options: `names` is a list or a mapping of names to [R, G, B], `ignore` lists further labels
    (0..65535) and colours of ignored pixels.

    Raises `UserError` for another layout, for an image without mask or a mask without image, and for an invalid
    description of the classes.
    """
    if names is not None and classes is not None:
        raise UserError(f"dataset.names and dataset.classes={classes} both describe the classes: give one.")
    path = classes or root / "classes.yaml"
    class_map = (
        parse_class_map(read_class_map(path), str(path), ignore)
        if names is None
        else parse_class_map({"names": names}, "dataset", ignore)
    )
    decoder = LabelMask(
        IndexMask(class_map.classes, class_map.ignored_labels),
        ColourMask(class_map.classes, class_map.ignored_colours) if class_map.coloured else None,
    )
    parts, notes = read_presplit(root)
    data = {split: PairDataset(pairs, decoder, channels) for split, pairs in parts.items()}
    return SegmentationDataset(class_map.classes, **data, notes=notes, channels=channels)
