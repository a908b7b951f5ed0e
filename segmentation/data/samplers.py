"""In which order, with which luck, and by which process an epoch's images are seen."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler


class Draw(NamedTuple):
    """A sample to load."""

    item: int
    """Its index."""
    seed: int
    """Of its augmentation."""
    counts: bool = True
    """False for a stand-in, whose labels are all ignored."""


_AT_ONCE = 4096


class Shuffled(Sampler[Draw]):
    """Every index once an epoch, in an order and with augmentation seeds that follow from (seed, epoch).

    The main process draws the seeds, so the number of workers changes nothing, and a run that is resumed
    at epoch n continues with exactly the samples that an unbroken run would have seen.
    """

    def __init__(self, length: int, seed: int) -> None:
        self._length = length
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Draw]:
        random = np.random.default_rng((self._seed, self._epoch))
        order = random.permutation(self._length)
        seeds = random.integers(2**32, size=self._length)
        # Some at a time: a million draws as Python's objects take 160 MB.
        for start in range(0, self._length, _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            yield from map(Draw, order[part].tolist(), seeds[part].tolist())


class InOrder(Sampler[Draw]):
    """Every index once, as it stands: for validation and test."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Draw]:
        return (Draw(index, 0) for index in range(self._length))


class Shares(Sampler[list[Draw]]):
    """One process's part of every batch: `batch_size` draws in turn, dealt to `processes` like cards.

    Together the processes see what one alone would: every draw once, in the same batches. Where a last batch
    has fewer images than there are processes, the others get a stand-in of its first image, because all must
    come to the same number of steps.

    `sampler` is public for the trainer, which tells it the epoch. `first` is asked at the start of each pass for
    the number of the batch with which it begins.
    """

    def __init__(
        self,
        sampler: Shuffled | InOrder,
        batch_size: int,
        *,
        process: int = 0,
        processes: int = 1,
        first: Callable[[], int] = int,
    ) -> None:
        self.sampler = sampler
        self._first = first
        self._batch_size = batch_size
        self._process = process
        self._processes = processes

    def __len__(self) -> int:
        return -(-len(self.sampler) // self._batch_size)

    def __iter__(self) -> Iterator[list[Draw]]:
        draws = islice(self.sampler, self._first() * self._batch_size, None)
        while batch := list(islice(draws, self._batch_size)):
            yield batch[self._process :: self._processes] or [batch[0]._replace(counts=False)]


class Turns(Sampler[list[Draw]]):
    """One process's turns at whole batches: every `processes`th of `sampler`'s, from number `process` on.

    For work without steps in common, where a batch must be what it would be in one process alone: of another size
    it is rounded otherwise.
    """

    def __init__(self, sampler: InOrder, batch_size: int, *, process: int, processes: int) -> None:
        self._batches = Shares(sampler, batch_size)
        self._process = process
        self._processes = processes

    def __len__(self) -> int:
        return len(range(self._process, len(self._batches), self._processes))

    def __iter__(self) -> Iterator[list[Draw]]:
        return islice(self._batches, self._process, None, self._processes)
