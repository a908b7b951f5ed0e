"""What a look at the training images tells: sizes, objects, class shares. The planner and the doctor start from it.

Class weights follow from how often each class occurs in all training masks.
"""

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from tqdm import tqdm

from segmentation.data.dataset import Samples, SegmentationDataset, read_ahead
from segmentation.data.files import evenly_spaced
from segmentation.data.windows import Windowed
from segmentation.errors import UserError
from segmentation.machine import cores
from segmentation.types import IGNORE_INDEX, Classes

HEADERS = 512
"""Images whose sizes are read; of more, this many evenly spaced ones."""

MASKS = 64
"""Masks that are read; of more, this many evenly spaced ones."""

_READ_AHEAD = 4  # masks per thread
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


def count_classes(samples: Samples, classes: int) -> np.ndarray:
    """int64 (N, K): the pixels of each class in each mask; ignored ones count nowhere. All masks are read."""

    def count(index: int) -> np.ndarray:
        mask = samples.mask(index) if isinstance(samples, Windowed) else samples[index]["mask"]
        return np.bincount(mask.ravel(), minlength=256)[:classes]

    with ThreadPoolExecutor(cores()) as pool:
        rows = read_ahead(count, range(len(samples)), pool, ahead=_READ_AHEAD * cores())
        hidden = not sys.stderr.isatty()
        found = list(tqdm(rows, desc="counting classes", total=len(samples), leave=False, disable=hidden))
    return np.stack(found).astype(np.int64)


def class_weights(counts_NK: np.ndarray) -> list[float]:
    """Weights of the classes by ENet's formula (Paszke et al. 2016): 1 / ln(1.02 + p), p the class's share of pixels.

    They lie between 1.4 and 50 and are divided by that of the most frequent class; a class that does not occur gets
    the weight of the rarest that does. Raises `UserError` where no pixel is labelled.
    """
    totals = counts_NK.sum(axis=0)
    if not totals.any():
        raise UserError(
            "No training mask holds a labelled pixel, so there are no class weights: correct the masks."
        )
    shares = totals / totals.sum()
    shares[totals == 0] = shares[totals > 0].min()
    weights = 1 / np.log(1.02 + shares)
    return [round(float(weight), 3) for weight in weights / weights.min()]


def described_weights(weights: Sequence[float], classes: Classes) -> str:
    """For the log: `background 1, crack 21.4`."""
    return ", ".join(f"{name} {weight:g}" for name, weight in zip(classes.names, weights, strict=True))
