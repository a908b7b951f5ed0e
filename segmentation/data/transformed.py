"""A split as torch's loader sees it: what is drawn, read and transformed."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np
import torch
from torch.utils.data import Dataset

from segmentation.data.augmentation import Transform
from segmentation.data.reading import read
from segmentation.data.sampler import Draw
from segmentation.data.source import Samples
from segmentation.sample import IGNORE_INDEX, Sample


class Transformed(Dataset[Sample]):
    """A data set seen through a transform; its keys carry the seed of the draw.

    `decoded` says that the samples come out of files, which several threads can read at once.
    """

    def __init__(self, samples: Samples, transform: Transform, *, decoded: bool) -> None:
        self._samples = samples
        self._transform = transform
        self._decoded = decoded

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, draw: Draw) -> Sample:
        return self._transformed(self._samples[draw.item], draw)

    def __getitems__(self, draws: list[Draw]) -> list[Sample]:
        """A batch, as torch's loader asks for it.

        Without loader processes all cores read, which else would wait for one of them.
        """
        samples = self._read([draw.item for draw in draws])
        return [self._transformed(sample, draw) for sample, draw in zip(samples, draws, strict=True)]

    def _read(self, items: list[int]) -> Iterable[Sample]:
        threads = torch.get_num_threads() if self._decoded else 1  # in a loader process torch has one
        if threads == 1:
            return map(self._samples.__getitem__, items)
        return read(self._samples, items, self._pool, ahead=threads)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(torch.get_num_threads())

    def _transformed(self, sample: Sample, draw: Draw) -> Sample:
        sample = self._transform(sample, draw.seed)
        return sample if draw.counts else {**sample, "mask": np.full_like(sample["mask"], IGNORE_INDEX)}
