"""What every data set gives: classes, three splits, and what should be known about them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from segmentation.classes import Classes
from segmentation.errors import UserError
from segmentation.sample import Sample


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
class Source:
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
