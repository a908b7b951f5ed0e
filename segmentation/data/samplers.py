"""Samplers: the order of the images, their augmentation seeds, and which process loads which image.

`ShuffledSampler` (training) and `SequentialSampler` (validation, test) give the order of single samples: an option
such as weighted or repeated sampling belongs there. The batch samplers distribute the samples over processes:
`DistributedBatchSampler` gives every process a share of each batch, `RoundRobinBatchSampler` gives it whole batches.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler


class SampleIndex(NamedTuple):
    """A sample to load. The samplers give it to the data set instead of a plain index."""

    item: int
    """The index of the sample in its split."""
    seed: int
    """The seed of its augmentation."""
    padding: bool = False
    """True for a sample that only fills up a batch: all its labels are ignored."""


_CHUNK = 4096


class ShuffledSampler(Sampler[SampleIndex]):
    """Every index once an epoch, in an order and with augmentation seeds that follow from (seed, epoch).

    The main process draws the seeds, so the result does not depend on the number of workers, and a run that is
    resumed at epoch n sees exactly the samples that an uninterrupted run would have seen.
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

    def __iter__(self) -> Iterator[SampleIndex]:
        random = np.random.default_rng((self._seed, self._epoch))
        order = random.permutation(self._length)
        seeds = random.integers(2**32, size=self._length)
        # In chunks: a million samples as Python objects take 160 MB.
        for start in range(0, self._length, _CHUNK):
            part = slice(start, start + _CHUNK)
            yield from map(SampleIndex, order[part].tolist(), seeds[part].tolist())


class SequentialSampler(Sampler[SampleIndex]):
    """Every index once, in order, with seed 0: for validation and test."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[SampleIndex]:
        return (SampleIndex(index, 0) for index in range(self._length))


class DistributedBatchSampler(Sampler[list[SampleIndex]]):
    """One process's share of every batch: sample i of a batch goes to process i modulo `processes`.

    Together the processes see the same as a single process: every sample once, in the same batches of `batch_size`.
    If the last batch has fewer samples than there are processes, the other processes get its first sample with all
    labels ignored, because all processes must take the same number of steps.

    `sampler` is public so that the trainer can set its epoch. `first_batch` is called at the start of each epoch and
    returns the index of the first batch.
    """

    def __init__(
        self,
        sampler: ShuffledSampler | SequentialSampler,
        batch_size: int,
        *,
        process: int = 0,
        processes: int = 1,
        first_batch: Callable[[], int] = int,
    ) -> None:
        self.sampler = sampler
        self._first_batch = first_batch
        self._batch_size = batch_size
        self._process = process
        self._processes = processes

    def __len__(self) -> int:
        return -(-len(self.sampler) // self._batch_size)

    def __iter__(self) -> Iterator[list[SampleIndex]]:
        draws = islice(self.sampler, self._first_batch() * self._batch_size, None)
        while batch := list(islice(draws, self._batch_size)):
            yield batch[self._process :: self._processes] or [batch[0]._replace(padding=True)]


class RoundRobinBatchSampler(Sampler[list[SampleIndex]]):
    """Whole batches in turn: every `processes`th batch of `sampler`, starting with number `process`.

    For evaluation by processes that do not run in step. Each batch is the same as in a single process, and so is
    the rounding of its results, which depends on the batch.
    """

    def __init__(self, sampler: SequentialSampler, batch_size: int, *, process: int, processes: int) -> None:
        self._batches = DistributedBatchSampler(sampler, batch_size)
        self._process = process
        self._processes = processes

    def __len__(self) -> int:
        return len(range(self._process, len(self._batches), self._processes))

    def __iter__(self) -> Iterator[list[SampleIndex]]:
        return islice(self._batches, self._process, None, self._processes)
