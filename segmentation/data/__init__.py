"""Data sets by name. Nothing here imports torch, so that broken data is reported at once."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from segmentation.config import create
from segmentation.data.binary import binary
from segmentation.data.checks import check_samples
from segmentation.data.dataset import SegmentationDataset, with_pixel_range
from segmentation.data.folder import folder
from segmentation.data.shapes import shapes
from segmentation.data.voc import voc

DATASETS: dict[str, Callable[..., SegmentationDataset]] = {
    "binary": binary,
    "camvid": folder,  # its classes are in conf/dataset/camvid.yaml
    "folder": folder,
    "shapes": shapes,
    "voc": voc,
}

__all__ = ["DATASETS", "SegmentationDataset", "create_dataset", "open_dataset"]


def create_dataset(channels: int = 3, /, *, name: str, **options: Any) -> SegmentationDataset:
    """The data set of `DATASETS` with this name and these options, its images of `channels` bands.

    Raises `UserError` for a name or an option that does not exist and for data that cannot be used.
    """
    return create("dataset", DATASETS, name, channels, **options)


def open_dataset(
    channels: int = 3, pixel_range: Any = "auto", /, *, name: str, **options: Any
) -> SegmentationDataset:
    """`create_dataset`, `with_pixel_range`, then `check_samples`, whose notes it gets: every run starts from this."""
    dataset = with_pixel_range(create_dataset(channels, name=name, **options), pixel_range)
    return replace(dataset, notes=(*dataset.notes, *check_samples(dataset)))
