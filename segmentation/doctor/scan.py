"""One pass over all images and masks of a data set: a few numbers of each, in arrays of fixed size."""

import hashlib
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from segmentation.data.checks import is_turned_unseen
from segmentation.data.dataset import FileDataset, MaskFiles, Samples, SegmentationDataset, read_ahead
from segmentation.data.files import evenly_spaced
from segmentation.data.masks import LabelMask, is_lossy
from segmentation.data.opening import opened
from segmentation.data.survey import object_sizes
from segmentation.errors import UserError
from segmentation.types import IGNORE_INDEX, Classes
from segmentation.visualization import as_rgb

THUMBNAIL = (16, 18)  # (H, W) of the grey picture that near duplicates are compared by
MEASURED = 500  # masks of a split whose objects are measured, evenly spaced

_REDUCED = (64, 64)  # JPEGs are decoded at no less than twice this size, which is enough for the thumbnail
_MESSAGES = 3  # of each kind of error
_PALETTES = 256  # different ones that are kept
_READ_AHEAD = 4  # samples per thread
_STEPS = 4  # of the histogram of object sizes for each doubling
_BINS = 64


@dataclass
class Faults:
    """The samples that have one kind of error: their indices and files, the first messages and the wrong values."""

    indices: list[int] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    values: set[int] = field(default_factory=set)

    def add(self, index: int, file: str, error: UserError) -> None:
        """One more sample."""
        self.indices.append(index)
        self.files.append(file)
        self.values.update(error.values)
        if len(self.messages) < _MESSAGES:
            self.messages.append(str(error))


@dataclass
class Scan:
    """What a pass over the N samples of a split found. Rows of samples that cannot be read are zero.

    `sizes` (N, 2) are heights and widths. `counts` (N, K + 1) are the pixels of each class, and of ignored ones last.
    `image_keys` and `mask_keys` (N,) are equal for equal files and equal masks. `looks` (N,) are the perceptual hashes
    and `thumbnails` (N, 16, 18) the grey pictures that they are of. `turned` and `lossy` (N,) mark turned images and
    JPEG masks. `palettes` (N,) numbers the palette of each mask in `palette_list`, -1 for none. `smallest` (N,) is the
    size of the smallest object, and `objects` (K, BINS) counts the objects of each class by `object_bins`; both are
    measured in up to `MEASURED` masks.
    """

    split: str
    samples: Samples
    classes: Classes
    sizes: np.ndarray
    counts: np.ndarray
    image_keys: np.ndarray
    mask_keys: np.ndarray
    looks: np.ndarray
    thumbnails: np.ndarray
    turned: np.ndarray
    lossy: np.ndarray
    palettes: np.ndarray
    smallest: np.ndarray
    objects: np.ndarray
    palette_list: list[bytes] = field(default_factory=list)
    faults: dict[str, Faults] = field(default_factory=dict)

    @classmethod
    def empty(cls, split: str, samples: Samples, classes: Classes) -> "Scan":
        """Before the pass."""
        count, labels = len(samples), len(classes)
        return cls(
            split,
            samples,
            classes,
            sizes=np.zeros((count, 2), np.int32),
            counts=np.zeros((count, labels + 1), np.uint32),
            image_keys=np.zeros(count, np.uint64),
            mask_keys=np.zeros(count, np.uint64),
            looks=np.zeros(count, np.uint64),
            thumbnails=np.zeros((count, *THUMBNAIL), np.uint8),
            turned=np.zeros(count, bool),
            lossy=np.zeros(count, bool),
            palettes=np.full(count, -1, np.int16),
            smallest=np.full(count, np.inf, np.float32),
            objects=np.zeros((labels, _BINS), np.int64),
        )

    @property
    def readable(self) -> np.ndarray:
        """bool (N,): the samples that could be read."""
        good: np.ndarray = self.sizes[:, 0] > 0
        return good

    def image(self, index: int) -> str:
        """The path of a sample's image; its name where it is no file."""
        samples = self.samples
        return str(samples.images.path(index)) if isinstance(samples, FileDataset) else samples.names[index]

    def mask(self, index: int) -> str:
        """The path of the file with a sample's labels; its name where they are in no file."""
        samples = self.samples
        return str(samples.labels.path(index)) if isinstance(samples, FileDataset) else samples.names[index]

    def median_object(self, label: int) -> float | None:
        """The median size (root of the area, pixels) of a class's objects, to a fifth; None without any."""
        return _middle(self.objects[label])

    def usual_object(self, label: int) -> float | None:
        """The size of objects, in pixels, such that smaller ones hold half of the class's area: specks count little."""
        return _middle(self.objects[label] * object_bins() ** 2)


def _middle(weights: np.ndarray) -> float | None:
    sums = weights.cumsum()
    return float(object_bins()[np.searchsorted(sums, sums[-1] / 2)]) if sums[-1] else None


def object_bins() -> np.ndarray:
    """The lower ends of the bins of object sizes, in pixels: four for each doubling."""
    return np.exp2(np.arange(_BINS) / _STEPS)


def scan(dataset: SegmentationDataset, threads: int) -> list[Scan]:
    """Reads every sample of each split once, with a progress bar; val that serves as test is read once.

    Memory holds the arrays of `Scan`, about 400 bytes and four for each class per sample, and an image a thread.
    """
    scans: list[Scan] = []
    splits = [
        (split, samples)
        for number, (split, samples) in enumerate(dataset.splits().items())
        if samples not in list(dataset.splits().values())[:number]
    ]
    total = sum(len(samples) for _, samples in splits)
    with (
        ThreadPoolExecutor(threads) as pool,
        tqdm(total=total, desc="reading", leave=False, disable=not sys.stderr.isatty()) as progress,
    ):
        for split, samples in splits:
            found = Scan.empty(split, samples, dataset.classes)
            measured = set(evenly_spaced(len(samples), MEASURED))
            reader = _Reader(samples, len(dataset.classes), measured)
            rows = read_ahead(reader.look, range(len(samples)), pool, ahead=_READ_AHEAD * threads)
            for index, row in enumerate(rows):
                _keep(found, index, row)
                progress.update()
            scans.append(found)
    return scans


class _Row(NamedTuple):
    size: tuple[int, int]
    counts: np.ndarray
    image_key: int
    mask_key: int
    look: int
    thumbnail: np.ndarray
    turned: bool
    lossy: bool
    palette: bytes
    objects: list[tuple[int, np.ndarray]]


class _Reader:
    """Reads the samples of a split; `measured` are those whose objects are measured."""

    def __init__(self, samples: Samples, classes: int, measured: set[int]) -> None:
        self._samples, self._classes, self._measured = samples, classes, measured
        self._files = replace(samples, min_size=_REDUCED) if isinstance(samples, FileDataset) else None

    def look(self, index: int) -> _Row | UserError:
        """The row of a sample, or why it cannot be used."""
        try:
            sample = (self._files or self._samples)[index]
            mask, image = sample["mask"], sample["image"]
            histogram = np.array(Image.fromarray(mask).histogram(), np.uint32)
            counts = np.append(histogram[: self._classes], histogram[IGNORE_INDEX])
            present = np.flatnonzero(counts[1:-1]) + 1 if index in self._measured else ()
            thumbnail = _thumbnail(image)
            lossy, palette = self._mask_header(index)
            return _Row(
                (mask.shape[0], mask.shape[1]),
                counts,
                self._image_key(index, image),
                _key(np.ascontiguousarray(mask).data, mask.shape),
                perceptual_hash(thumbnail),
                thumbnail,
                self._files is not None and is_turned_unseen(self._files, index),
                lossy,
                palette,
                [(int(label), object_sizes(mask, int(label))) for label in present],
            )
        except UserError as error:
            return error

    def _image_key(self, index: int, image: np.ndarray) -> int:
        if self._files is None:
            return _key(np.ascontiguousarray(image).data, image.shape)
        return _key(self._files.images.path(index).read_bytes(), ())

    def _mask_header(self, index: int) -> tuple[bool, bytes]:
        """Whether a mask file is a JPEG; its palette where ids have no other meaning than the ids themselves."""
        if self._files is None or not isinstance(self._files.labels, MaskFiles):
            return False, b""
        decoder = self._files.labels.decoder
        by_id = isinstance(decoder, LabelMask) and decoder.colours is None and not decoder.values.labels
        try:
            with opened(self._files.labels.path(index)) as picture:
                palette = picture.getpalette("RGB") if by_id and picture.mode == "P" else None
                return is_lossy(picture), bytes(palette or ())
        except Exception:  # a format that Pillow does not know, which the decoder does
            return False, b""


def _keep(found: Scan, index: int, row: _Row | UserError) -> None:
    if isinstance(row, UserError):
        mask = found.mask(index)
        file = mask if str(row).startswith(mask) else found.image(index)
        found.faults.setdefault(row.kind or "unusable", Faults()).add(index, file, row)
        return
    found.sizes[index], found.counts[index] = row.size, row.counts
    found.image_keys[index], found.mask_keys[index], found.looks[index] = (
        row.image_key,
        row.mask_key,
        row.look,
    )
    found.thumbnails[index], found.turned[index], found.lossy[index] = row.thumbnail, row.turned, row.lossy
    if row.palette:
        if row.palette not in found.palette_list and len(found.palette_list) < _PALETTES:
            found.palette_list.append(row.palette)
        if row.palette in found.palette_list:
            found.palettes[index] = found.palette_list.index(row.palette)
    for label, sizes in row.objects:
        if len(sizes):
            bins = np.clip(np.floor(np.log2(sizes) * _STEPS + 1e-6), 0, _BINS - 1).astype(int)
            found.objects[label] += np.bincount(bins, minlength=_BINS)
            found.smallest[index] = min(found.smallest[index], sizes.min())


def _key(data: "bytes | memoryview", shape: tuple[int, ...]) -> int:
    digest = hashlib.sha1(str(shape).encode(), usedforsecurity=False)
    digest.update(data)
    return int.from_bytes(digest.digest()[:8]) or 1


def _thumbnail(image_HWC: np.ndarray) -> np.ndarray:
    """Grey uint8 (16, 18), each pixel the mean of an area."""
    height, width = THUMBNAIL
    small = cv2.resize(as_rgb(image_HWC), (width, height), interpolation=cv2.INTER_AREA)
    return small.mean(axis=2).astype(np.uint8)


def perceptual_hash(thumbnail_HW: np.ndarray) -> int:
    """The difference hash (dHash, Krawetz 2013) of a grey picture: 64 bits, each whether it gets brighter to the right.

    Pictures that differ by compression, size or brightness differ in few bits.
    """
    cells = cv2.resize(thumbnail_HW, (9, 8), interpolation=cv2.INTER_AREA)
    bits = cells[:, 1:] > cells[:, :-1]
    return int.from_bytes(np.packbits(bits).tobytes())
