"""In which order, and with which luck, an epoch sees the training images."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

Draw = tuple[int, int]
"""(index of the sample, seed of its augmentation)"""


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
        return iter(zip(order.tolist(), seeds.tolist(), strict=True))


class InOrder(Sampler[Draw]):
    """Every index once, as it stands: for validation and test."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Draw]:
        return iter((index, 0) for index in range(self._length))
