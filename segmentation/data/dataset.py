"""`SegmentationDataset` (classes, three splits of samples, notes), and samples that are read from files.

A layout's reader returns `FoundFiles`, which `splits.divide` makes a `SegmentationDataset`.
"""

import hashlib
import os
import warnings
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np

from segmentation.data.files import Listing, Names, evenly_spaced
from segmentation.data.image_io import is_wide, read_size, read_sized, read_values
from segmentation.data.masks import MaskDecoder
from segmentation.data.pixel_range import PERCENTILES, PixelRange, drawn_pixels
from segmentation.data.raster import read_window
from segmentation.data.tiff import no_data
from segmentation.errors import UserError
from segmentation.types import Area, Classes, Sample

_MEASURED = 32  # training images whose pixel values are measured


class Samples(Protocol):
    """One split: index -> sample, read on access."""

    @property
    def names(self) -> Sequence[str]:
        """The name of each sample, in order; no file is read for it."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample:
        """Raises `IndexError` after the end and `UserError` for a file that cannot be used."""
        ...


class Fingerprint(NamedTuple):
    """Identifies samples for the cache: equal fingerprints mean equal samples."""

    what: str
    """Which samples, and how they are read or generated."""
    state: str
    """What may change for the same `what`: the sizes and modification times of the files."""


@runtime_checkable
class Fingerprinted(Protocol):
    """Samples that can be cached on disk."""

    def fingerprint(self) -> Fingerprint: ...


def fingerprint_of(samples: Samples) -> Fingerprint:
    """The fingerprint of samples. Raises `UserError` for a class without one, such as a user's own."""
    if not isinstance(samples, Fingerprinted):
        raise UserError(
            f"data.cache=disk cannot be used with {type(samples).__name__}, which has no method fingerprint() to detect"
            " changed samples: use data.cache=none, or add the method, which returns a Fingerprint."
        )
    return samples.fingerprint()


@runtime_checkable
class InScenes(Protocol):
    """Samples that are areas of scenes, side by side; None: an image of its own."""

    @property
    def areas(self) -> Sequence[Area | None]: ...


def areas_of(samples: Samples) -> Sequence[Area | None]:
    """Where each sample lies in a scene; None: it is an image of its own."""
    return samples.areas if isinstance(samples, InScenes) else [None] * len(samples)


@runtime_checkable
class Ranged(Protocol):
    """Samples, a dataclass, of images that may have more than 8 bits: `pixel_range` becomes 0..255."""

    pixel_range: PixelRange | None

    def __len__(self) -> int: ...

    def values(self, index: int, /) -> np.ndarray | None:
        """The image's values, (H, W, C), or a part of them; None where they have 8 bits."""
        ...


@dataclass(frozen=True)
class SegmentationDataset:
    """A data set of images with `channels` bands; `notes` are full sentences for the log and the report.

    `pixel_range` says which values are black and white in images of more than 8 bits. `counts`, int64 (N, K), are the
    pixels of each class in each training mask, where they are needed (`survey.count_classes`). `often` (N,) says how
    often each training sample is drawn in an epoch; None: once.
    """

    classes: Classes
    train: Samples
    val: Samples
    test: Samples
    notes: tuple[str, ...] = ()
    channels: int = 3
    pixel_range: PixelRange | None = None
    counts: np.ndarray | None = None
    often: np.ndarray | None = None

    def splits(self) -> dict[str, Samples]:
        """train, val and test by name."""
        return {"train": self.train, "val": self.val, "test": self.test}

    def names(self) -> dict[str, Sequence[str]]:
        """The names of the samples in each split."""
        return {split: samples.names for split, samples in self.splits().items()}


class Labels(Protocol):
    """The labels of a data set's images, in their order: mask files, or outlines that are drawn."""

    def path(self, index: int) -> Path:
        """The file that holds the labels of an image, for messages and to notice changes."""
        ...

    def mask(self, index: int, size: tuple[int, int]) -> np.ndarray:
        """uint8 (H, W), class indices, 255 is ignore.

        `size` (H, W) is the image's, for labels that do not know it; the mask has the size that its file says.
        Raises `UserError` for a file that cannot be used.
        """
        ...

    def take(self, indices: np.ndarray) -> "Labels":
        """The labels of the images at these indices."""
        ...

    def fingerprint(self) -> str:
        """How the files become masks: part of a cache's key."""
        ...


@dataclass(frozen=True, eq=False)
class MaskFiles:
    """A mask file for each image."""

    files: Listing
    decoder: MaskDecoder

    def path(self, index: int) -> Path:
        """The mask file."""
        return self.files.path(index)

    def mask(self, index: int, size: tuple[int, int]) -> np.ndarray:
        """The decoded file. Raises `UserError` as `decoder.decode` does."""
        return self.decoder.decode(self.files.path(index))

    def take(self, indices: np.ndarray) -> "MaskFiles":
        """The files at these indices."""
        return MaskFiles(self.files.take(indices), self.decoder)

    def fingerprint(self) -> str:
        """The decoder with its options."""
        return repr(self.decoder)


@dataclass(frozen=True, eq=False)
class FileDataset:
    """Samples from image files, with `channels` bands, and their labels; read and checked on access.

    With `min_size` (H, W), the size that images are resized to later, JPEGs may be decoded at a reduced size of no less
    than twice that: see `read_sized`. `pixel_range` is for images of more than 8 bits.
    """

    images: Listing
    labels: Labels
    channels: int = 3
    min_size: tuple[int, int] | None = None
    pixel_range: PixelRange | None = None

    @property
    def names(self) -> Sequence[str]:
        """The image files' paths in the data set without their endings, in order."""
        return Names(self.images.stems)

    def take(self, indices: np.ndarray) -> "FileDataset":
        """The samples at these indices."""
        return replace(self, images=self.images.take(indices), labels=self.labels.take(indices))

    def fingerprint(self) -> Fingerprint:
        """Which files are read and how; their sizes and modification times."""
        files, state = hashlib.sha256(), array("q")
        for index in range(len(self)):
            for path in (self.images.path(index), self.labels.path(index)):
                files.update(os.fsencode(f"{path.resolve()}\0"))
                try:
                    status = path.stat()
                except OSError:  # reading the file will report the error
                    continue
                state.extend((status.st_size, status.st_mtime_ns))
        how = f"{self.labels.fingerprint()} {self.channels} {self.min_size} {self.pixel_range}"
        return Fingerprint(f"{files.hexdigest()}\0{how}", hashlib.sha256(state).hexdigest())

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        """Raises `UserError` for unreadable files, for labels outside the classes and for different sizes."""
        image, size = read_sized(self.images.path(index), self.channels, self.min_size, self.pixel_range)
        return {"image": image, "mask": self._mask(index, size), "name": self.names[index]}

    def mask(self, index: int) -> np.ndarray:
        """The mask alone, uint8 (H, W). Raises `UserError` as `labels.mask` does, and for different sizes."""
        return self._mask(index, self.size(index))

    def _mask(self, index: int, size: tuple[int, int]) -> np.ndarray:
        mask = self.labels.mask(index, size)
        if mask.shape != size and any(size):  # an image that cannot be read is reported when it is decoded
            (height, width), (mask_height, mask_width) = size, mask.shape
            swapped = (height, width) == (mask_width, mask_height)
            cause = " Was the mask drawn without the image's EXIF orientation?" if swapped else ""
            raise UserError(
                f"{self.images.path(index)} has {width}x{height} pixels, but {self.labels.path(index)} "
                f"{mask_width}x{mask_height}: give them the same size.{cause}",
                kind="size-mismatch",
            )
        return mask

    def values(self, index: int) -> np.ndarray | None:
        """The image's values (H, W, C), nan where a TIFF has no data; None where they have 8 bits."""
        path = self.images.path(index)
        if not is_wide(path):
            return None
        values_HWC, missing = read_values(path, self.channels), no_data(path)
        return values_HWC if missing is None else np.where(values_HWC == missing, np.nan, values_HWC)

    def size(self, index: int) -> tuple[int, int]:
        """(H, W) of the image, from its header; (0, 0) for a file that cannot be opened."""
        return read_size(self.images.path(index))

    def window(self, index: int, rows: slice, columns: slice) -> Sample:
        """These rows and columns of a sample; other images than TIFFs, and all masks, are decoded whole for it."""
        path = self.images.path(index)
        image = read_window(path, rows, columns, self.channels, self.pixel_range)
        if image is None:
            sample = self[index]
            # Copies, so that the whole image does not stay in memory.
            image, mask = sample["image"][rows, columns].copy(), sample["mask"][rows, columns].copy()
        else:
            mask = self.mask(index)[rows, columns].copy()
        return {"image": image, "mask": mask, "name": self.names[index]}


WHOLE = "whole"


@dataclass(frozen=True)
class FoundFiles:
    """What a layout's reader found: the classes, and the samples in train, perhaps val and test, or as `WHOLE`.

    `groups` says for each sample of a `WHOLE`, or of train without a val, what it belongs to and is never parted from,
    where the files say so.
    With `overlapping`, the parts share images on purpose, which a note says.
    """

    classes: Classes
    parts: Mapping[str, FileDataset]
    notes: tuple[str, ...] = ()
    groups: Sequence[str] = ()
    overlapping: bool = False


def with_pixel_range(dataset: SegmentationDataset, choice: Any) -> SegmentationDataset:
    """The data set with the pixel range of `data.pixel_range`, for samples that are read from files.

    "auto" measures the percentiles of up to `_MEASURED` evenly spaced training images, where they have more than 8
    bits. Raises `UserError` where `PixelRange` does.
    """
    known = isinstance(choice, PixelRange) or choice in ("auto", "full", None)
    found = choice if known else PixelRange.from_list(choice)
    train = dataset.train
    if not isinstance(train, Ranged) or choice in ("full", None):
        return dataset
    notes: tuple[str, ...] = ()
    if choice == "auto":
        looked = (train.values(index) for index in evenly_spaced(len(train), _MEASURED))
        # Not the whole images, which may have gigabytes together.
        wide = [drawn_pixels(values) for values in looked if values is not None]
        if not wide:
            return dataset
        found = PixelRange.measured(wide)
        notes = (
            f"Images of more than 8 bits: 0..255 of the model is {found} in them, the {PERCENTILES[0]} and "
            f"{PERCENTILES[1]} % percentiles of each band in {len(wide)} training images (data.pixel_range).",
        )
    ranged: dict[str, Any] = {
        split: replace(samples, pixel_range=found) if isinstance(samples, Ranged) else samples  # type: ignore[type-var]
        for split, samples in dataset.splits().items()
    }
    return replace(dataset, **ranged, notes=(*dataset.notes, *notes), pixel_range=found)


Item = TypeVar("Item")
Read = TypeVar("Read")


def read_ahead(
    read: Callable[[Item], Read], items: Iterable[Item], pool: ThreadPoolExecutor, *, ahead: int
) -> Iterator[Read]:
    """What `read` returns for each item, in order, read by the threads of a pool, at most `ahead` of them in advance.

    The limit bounds memory, because whole photographs are large. Threads help because decoding releases Python's
    global lock.
    """
    waiting: deque[Future[Read]] = deque()
    # Readers change the warning filters of all threads: this restores them.
    with warnings.catch_warnings():
        try:
            for item in items:
                waiting.append(pool.submit(read, item))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            wait(waiting)  # after an error, too, no thread may still be reading
