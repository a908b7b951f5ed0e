"""Samplers: the order of the images, their augmentation seeds, and which process loads which image.

`ShuffledSampler` and `BalancedSampler` (training) and `SequentialSampler` (validation, test) give the order of single
samples: how often each is drawn belongs there. The batch samplers distribute the samples over processes:
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
    label: int | None = None
    """The class of which its window must show a pixel."""


_CHUNK = 4096


class ShuffledSampler(Sampler[SampleIndex]):
    """Every index once an epoch, or as often as `times` (N,) says, in an order that follows from (seed, epoch).

    Numbers with a fraction are rounded up or down, in each epoch others, so that their sum stays.

    The main process draws the order and the augmentation seeds, so the result does not depend on the number of workers,
    and a run that is resumed at epoch n sees exactly the samples that an uninterrupted run would have seen.
    """

    def __init__(self, length: int, seed: int, times: np.ndarray | None = None) -> None:
        self._ends = None if times is None else np.cumsum(times)
        self._length = length if self._ends is None else max(1, round(self._ends[-1]))
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
        if self._ends is not None:
            # Equal steps along the sum of all times meet each index as often as it says.
            steps = (random.random() + order) * (self._ends[-1] / self._length)
            order = np.searchsorted(self._ends, steps, side="right").clip(max=len(self._ends) - 1)
        seeds = random.integers(2**32, size=self._length)
        # In chunks: a million samples as Python objects take 160 MB.
        for start in range(0, self._length, _CHUNK):
            part = slice(start, start + _CHUNK)
            yield from map(SampleIndex, order[part].tolist(), seeds[part].tolist())


class BalancedSampler(ShuffledSampler):
    """As many samples as `ShuffledSampler`, in which every class is equally likely to occur (class-aware sampling).

    Each draw is first of a class, each of those that occur alike, then of an image that holds it (`present`, bool
    (N, K)), each alike (Shen et al. 2016, Relay Backpropagation) or in proportion to `often` (N,). With the probability
    `focus` its window must show a pixel of this class.
    """

    def __init__(
        self,
        present: np.ndarray,
        seed: int,
        times: np.ndarray | None = None,
        *,
        often: np.ndarray | None = None,
        focus: float = 0.0,
    ) -> None:
        super().__init__(len(present), seed, times)
        weights = np.ones(len(present)) if often is None else often
        self._holding = [np.flatnonzero(column * weights) for column in present.T]
        self._ends_of = [np.cumsum(weights[holding]) for holding in self._holding]
        self._occurring = np.flatnonzero([len(holding) for holding in self._holding])
        self._focus = focus

    def __iter__(self) -> Iterator[SampleIndex]:
        random = np.random.default_rng((self._seed, self._epoch))
        for start in range(0, self._length, _CHUNK):
            count = min(_CHUNK, self._length - start)
            labels = random.choice(self._occurring, count)
            shares = random.random(count)
            seeds = random.integers(2**32, size=count)
            focused = random.random(count) < self._focus
            for label, share, seed, shown in zip(labels, shares, seeds, focused, strict=True):
                ends = self._ends_of[label]
                item = int(self._holding[label][np.searchsorted(ends, share * ends[-1], side="right")])
                yield SampleIndex(item, int(seed), label=int(label) if shown else None)


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
