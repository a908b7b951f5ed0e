"""Samples read by several threads, in their order."""

import hashlib
import os
import warnings
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from segmentation.data.files import Pairs
from segmentation.data.image_io import read_sized
from segmentation.data.masks import MaskDecoder
from segmentation.errors import UserError
from segmentation.types import Classes, Sample

# MERGED FROM data/source: What every data set gives: classes, three splits, and what should be known about them.
# MERGED FROM data/pairs: Pairs of files as a data set.


class Samples(Protocol):
    """One split: index -> sample, read when asked for."""

    @property
    def names(self) -> Sequence[str]:
        """The name of each sample, in order, known without reading a file."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample:
        """Raises `IndexError` past the end and `UserError` for a file that cannot be used."""
        ...


class Trace(NamedTuple):
    """What samples follow from, in words for a machine: equal traces mean equal samples."""

    what: str
    """Which they are and how they are made."""
    state: str
    """What may change while `what` stays: the files' sizes and times."""


@runtime_checkable
class Traced(Protocol):
    """Samples that can be kept for another run."""

    def trace(self) -> Trace: ...


def traced(samples: Samples) -> Trace:
    """Their trace. Raises `UserError` for samples that have none, such as a data set of the user's own class."""
    if not isinstance(samples, Traced):
        raise UserError(
            f"data.cache=disk cannot keep the samples of {type(samples).__name__}, which has no method trace() to tell"
            " when they change: leave it at data.cache=none, or add one that returns a Trace."
        )
    return samples.trace()


@dataclass(frozen=True)
class SegmentationDataset:
    """A data set of images with `channels` bands; `notes` are whole sentences for the log and the report."""

    classes: Classes
    train: Samples
    val: Samples
    test: Samples
    notes: tuple[str, ...] = ()
    channels: int = 3

    def splits(self) -> dict[str, Samples]:
        """train, val and test by name."""
        return {"train": self.train, "val": self.val, "test": self.test}

    def names(self) -> dict[str, Sequence[str]]:
        """Which samples each split holds."""
        return {split: samples.names for split, samples in self.splits().items()}


@dataclass(frozen=True)
class PairDataset:
    """Reads the image, of `channels` bands, and the mask of a pair each time it is asked, and checks them.

    With `least` (H, W), the size that they are brought to, photographs may come smaller than their files have
    them, but no smaller than twice that: see `segmentation.data.jpeg`.
    """

    pairs: Pairs
    decoder: MaskDecoder
    channels: int = 3
    least: tuple[int, int] | None = None

    @property
    def names(self) -> Sequence[str]:
        """The stems of the image files, in order."""
        return self.pairs.names

    def trace(self) -> Trace:
        """Which files, read how; and their sizes and times of change."""
        files, state = hashlib.sha256(), array("q")
        for index in range(len(self)):
            for path in (self.pairs.image_path(index), self.pairs.mask_path(index)):
                files.update(os.fsencode(f"{path.name}\0"))
                try:
                    status = path.stat()
                except OSError:  # reading it will say why
                    continue
                state.extend((status.st_size, status.st_mtime_ns))
        folders = f"{self.pairs.images.resolve()}\0{self.pairs.masks.resolve()}"
        how = f"{self.decoder!r} {self.channels} {self.least}"
        return Trace(f"{folders}\0{files.hexdigest()}\0{how}", hashlib.sha256(state).hexdigest())

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Raises `UserError` for files that cannot be read, labels of no class and sizes that differ."""
        image_path, mask_path = self.pairs.image_path(index), self.pairs.mask_path(index)
        image, (height, width) = read_sized(image_path, self.channels, self.least)
        mask = self.decoder.decode(mask_path)
        mask_height, mask_width = mask.shape
        if (height, width) != (mask_height, mask_width):
            swapped = (height, width) == (mask_width, mask_height)
            cause = " Was the mask drawn without the image's EXIF orientation?" if swapped else ""
            raise UserError(
                f"{image_path} has {width}x{height} pixels, but {mask_path} {mask_width}x{mask_height}: "
                f"make them equal.{cause}"
            )
        return {"image": image, "mask": mask, "name": self.pairs.names[index]}


def read(
    samples: Samples, indices: Iterable[int], pool: ThreadPoolExecutor, *, ahead: int
) -> Iterator[Sample]:
    """The samples of `indices`, by a pool's threads, `ahead` of what is asked for: whole photographs are large.

    It pays where samples are decoded, which leaves Python's lock alone.
    """
    waiting: deque[Future[Sample]] = deque()
    # Readers switch warnings off and on, each for all threads: whatever they leave behind is undone here.
    with warnings.catch_warnings():
        try:
            for index in indices:
                waiting.append(pool.submit(samples.__getitem__, index))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            wait(waiting)  # where one cannot be read, the others must not leave anything behind later
