"""Several classes in {train,val,test}/{images,masks}, as their owner describes them."""

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
    """`root` holds train, val and possibly test, each with images, read with `channels` bands, and masks.

    The classes stand in the file `classes` (default: classes.yaml in `root`) under names, colours and ignore,
    or in the options: `names` is a list or a mapping of names to [R, G, B], `ignore` lists further labels
    (0..65535) and colours that count nowhere.

    Raises `UserError` for another layout, images or masks without partner, and classes that are not right.
    """
    if names is not None and classes is not None:
        raise UserError(f"dataset.names and dataset.classes={classes} both describe the classes: give one.")
    path = classes or root / "classes.yaml"
    legend = (
        parse_class_map(read_class_map(path), str(path), ignore)
        if names is None
        else parse_class_map({"names": names}, "dataset", ignore)
    )
    decoder = LabelMask(
        IndexMask(legend.classes, legend.ignored_labels),
        ColourMask(legend.classes, legend.ignored_colours) if legend.coloured else None,
    )
    parts, notes = read_presplit(root)
    data = {split: PairDataset(pairs, decoder, channels) for split, pairs in parts.items()}
    return SegmentationDataset(legend.classes, **data, notes=notes, channels=channels)
