"""What every data set gives (classes, three splits of samples, notes), and samples read from pairs of files.

A data set of another format is a function that returns a `SegmentationDataset`; add it to `DATASETS`.
"""

import hashlib
import os
import warnings
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from segmentation.data.files import Pairs, evenly_spaced
from segmentation.data.image_io import present_values, read_sized
from segmentation.data.masks import MaskDecoder
from segmentation.errors import UserError
from segmentation.types import IGNORE_INDEX, Classes, Sample

CHECKED = 16
"""Samples of a split that are read before a run."""


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
    """Identifies samples for the cache: equal traces mean equal samples."""

    what: str
    """Which samples, and how they are made."""
    state: str
    """What may change while `what` stays: the sizes and times of the files."""


@runtime_checkable
class Traced(Protocol):
    """Samples that the cache can keep for another run."""

    def trace(self) -> Trace: ...


def traced(samples: Samples) -> Trace:
    """The trace of samples. Raises `UserError` for a class without one, such as a user's own."""
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
    """Reads the image, of `channels` bands, and the mask of a pair whenever it is asked for, and checks them.

    With `least` (H, W), the size that images are resized to later, JPEGs may be decoded at a reduced size, but no
    smaller than twice that: see `read_sized`.
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
        """Which files are read and how; their sizes and times of change."""
        files, state = hashlib.sha256(), array("q")
        for index in range(len(self)):
            for path in (self.pairs.image_path(index), self.pairs.mask_path(index)):
                files.update(os.fsencode(f"{path.name}\0"))
                try:
                    status = path.stat()
                except OSError:  # reading it will say why
                    continue
                state.extend((status.st_size, status.st_mtime_ns))
        folders = f"{self.pairs.image_folder.resolve()}\0{self.pairs.mask_folder.resolve()}"
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


def check_samples(dataset: SegmentationDataset) -> None:
    """Reads samples spread over each split, so that faults in the data show before the first step.

    Samples check their own files whenever they are read, the number of bands included. Beyond that, raises
    `UserError` for an empty split, for a split whose masks are ignored entirely, and for masks of 0/255 in data
    of several classes.
    """
    checked: list[Samples] = []
    for split, samples in dataset.splits().items():
        if not len(samples):
            raise UserError(f"The {split} split holds no images: every split needs at least one.")
        if samples not in checked:  # val may serve as test
            checked.append(samples)
            _check_labels(split, samples, binary=dataset.classes.binary)


def _check_labels(split: str, samples: Samples, *, binary: bool) -> None:
    indices = evenly_spaced(len(samples), CHECKED)
    labels = {label for index in indices for label in present_values(samples[index]["mask"])}
    if labels == {IGNORE_INDEX}:
        raise UserError(
            f"All pixels of the {len(indices)} {split} masks looked at are ignored: "
            "mend the masks or dataset.ignore."
        )
    if labels == {0, IGNORE_INDEX} and not binary:
        raise UserError(
            f"The {len(indices)} {split} masks looked at hold only 0 and 255, and 255 is ignored: "
            "use dataset=binary for masks of 0/255."
        )


def read_ahead(
    samples: Samples, indices: Iterable[int], pool: ThreadPoolExecutor, *, ahead: int
) -> Iterator[Sample]:
    """The samples of `indices` in order, read by the threads of a pool, at most `ahead` before they are asked for.

    The limit bounds memory: whole photographs are large. Threads pay where samples are decoded, which does not
    hold Python's lock.
    """
    waiting: deque[Future[Sample]] = deque()
    # Readers switch warnings off and on for all threads: whatever they leave behind is undone here.
    with warnings.catch_warnings():
        try:
            for index in indices:
                waiting.append(pool.submit(samples.__getitem__, index))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            wait(waiting)  # after an error no thread may still be reading
