"""What a look at the training images tells: sizes, objects, class shares. The planner and the doctor start from it."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np

from segmentation.data.dataset import SegmentationDataset, read_ahead
from segmentation.data.files import evenly_spaced
from segmentation.data.windows import Windowed
from segmentation.machine import cores
from segmentation.types import IGNORE_INDEX

HEADERS = 512
"""Images whose sizes are read; of more, this many evenly spaced ones."""

MASKS = 64
"""Masks that are read; of more, this many evenly spaced ones."""

_LEAST_AREA = 16  # pixels: smaller specks are noise of a mask, or lost at any size


@dataclass(frozen=True)
class Survey:
    """`images` training images; sizes (N, 2) as (H, W) of some; of some masks the classes and the objects.

    `shares` (K,) are the classes' shares of the labelled pixels, `holding` (K,) the shares of the masks that hold
    them. An object is a connected region of a class other than the first, without those that are ten times smaller than
    the largest of their class in the mask; its size is the root of its area, in pixels: `objects` (M,), all sizes.
    """

    images: int
    sizes: np.ndarray
    shares: np.ndarray
    holding: np.ndarray
    objects: np.ndarray

    @property
    def usual_size(self) -> tuple[int, int]:
        """The median height and width."""
        height, width = np.median(self.sizes, axis=0)
        return int(height), int(width)

    @property
    def longest_side(self) -> int:
        """The longer side of nearly all images: its 95th percentile."""
        return int(np.percentile(self.sizes.max(axis=1), 95))

    @property
    def small_object(self) -> float | None:
        """The size of small objects: the 10th percentile; None where the masks show none."""
        return float(np.percentile(self.objects, 10)) if len(self.objects) else None


def survey(dataset: SegmentationDataset) -> Survey | None:
    """Looks at the headers of up to `HEADERS` training images and at up to `MASKS` masks.

    None for samples that are not files. Raises `UserError` for masks that cannot be read.
    """
    train = dataset.train
    if not isinstance(train, Windowed):
        return None
    with ThreadPoolExecutor(cores()) as pool:
        sizes = list(pool.map(train.size, evenly_spaced(len(train), HEADERS)))
        masks = read_ahead(train.mask, evenly_spaced(len(train), MASKS), pool, ahead=cores())
        counted = [_look_at(mask, len(dataset.classes)) for mask in masks]
    counts = np.stack([counts for counts, _ in counted])
    return Survey(
        len(train),
        np.array([size for size in sizes if min(size) > 0] or [(0, 0)]),
        counts.sum(axis=0) / max(1, counts.sum()),
        (counts > 0).mean(axis=0),
        np.concatenate([objects for _, objects in counted]),
    )


def _look_at(mask_HW: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """The pixels of each class (K,), and the sizes of the objects."""
    counts = np.bincount(mask_HW.ravel(), minlength=IGNORE_INDEX + 1)[:classes]
    present = np.flatnonzero(counts[1:] > 0) + 1
    sizes = [_without_specks(object_sizes(mask_HW, int(label))) for label in present]
    return counts, np.concatenate(sizes) if sizes else np.empty(0)


def _without_specks(sizes: np.ndarray) -> np.ndarray:
    """Those of at least a tenth of the largest: a road has cut-off bits, which are no objects of their own."""
    return sizes[sizes >= sizes.max() / 10] if len(sizes) else sizes


def object_sizes(mask_HW: np.ndarray, label: int) -> np.ndarray:
    """The sizes (root of the area, pixels) of the connected regions of a class, without specks."""
    region = (mask_HW == label).view(np.uint8)
    left, top, width, height = cv2.boundingRect(region)
    region = region[top : top + height, left : left + width]
    found = cv2.connectedComponentsWithStats(region, connectivity=8)
    areas: np.ndarray = found[2][1:, cv2.CC_STAT_AREA]
    return np.sqrt(areas[areas >= _LEAST_AREA])
