"""Samples -> batches: the one file of this room that knows torch's loaders and Lightning."""

import os
from collections.abc import Callable
from typing import Literal

import cv2
import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from segmentation.data.augmentation import Transform, evaluation_transform
from segmentation.data.sampler import Draw, InOrder, Shuffled
from segmentation.data.source import Samples, Source
from segmentation.sample import Batch, Sample
from segmentation.settings import DataSettings

Loader = DataLoader[Sample]


class SegmentationData(LightningDataModule):
    """Loaders over a `Source`; every random choice follows from `seed` and the epoch.

    `settings.size` (H, W) is what the model sees in training; `settings.resize` says whether whole images are
    brought to it, or crops are cut at the images' own resolution. These are then evaluated whole and one by
    one, because images of different sizes share no batch.
    """

    def __init__(self, source: Source, training: Transform, settings: DataSettings, *, seed: int) -> None:
        super().__init__()
        self.source = source
        self.evaluation = evaluation_transform(**settings.input)
        self.training = training
        self._batch_size = settings.batch_size
        self._evaluation_batch_size = settings.batch_size if settings.resize else 1
        self._workers = count_workers(settings.workers)
        self._seed = seed

    def train_dataloader(self) -> Loader:
        """Shuffled, augmented, masks stacked."""
        data = _Transformed(self.source.train, self.training)
        return self._loader(data, Shuffled(len(data), self._seed), self._batch_size, collate_training)

    def val_dataloader(self) -> Loader:
        """In order, images resized at most, masks at their own size."""
        return self._evaluation_loader(self.source.val)

    def test_dataloader(self) -> Loader:
        """As `val_dataloader`, over the test split."""
        return self._evaluation_loader(self.source.test)

    def _evaluation_loader(self, samples: Samples) -> Loader:
        data = _Transformed(samples, self.evaluation)
        return self._loader(data, InOrder(len(data)), self._evaluation_batch_size, collate_evaluation)

    def _loader(
        self,
        data: "_Transformed",
        sampler: Shuffled | InOrder,
        batch_size: int,
        collate: Callable[[list[Sample]], Batch],
    ) -> Loader:
        return DataLoader(
            data,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=self._workers,
            collate_fn=collate,
            worker_init_fn=_quiet_worker,
            persistent_workers=self._workers > 0,
            pin_memory=torch.cuda.is_available(),
            # Of its own: workers would else take a number from the stream that dropout draws from.
            generator=torch.Generator(),
        )


class _Transformed(Dataset[Sample]):
    """A data set seen through a transform; its keys carry the seed of the draw."""

    def __init__(self, samples: Samples, transform: Transform) -> None:
        self._samples = samples
        self._transform = transform

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, draw: Draw) -> Sample:
        index, seed = draw
        return self._transform(self._samples[index], seed)


def count_workers(workers: int | Literal["auto"]) -> int:
    """Loader processes: the number given; for "auto" one for each core but one, at most 8, beside a GPU.

    Without a GPU it is none: loading takes a few percent of a step there, and a second process would fight
    with the training for the cores.
    """
    if workers != "auto":
        return workers
    return min((os.cpu_count() or 1) - 1, 8) if torch.cuda.is_available() else 0


def collate_training(samples: list[Sample]) -> Batch:
    """Equal sizes -> images uint8 (B, C, H, W), masks uint8 (B, H, W)."""
    masks = np.stack([sample["mask"] for sample in samples])
    return {**_stack_images(samples), "mask": torch.from_numpy(masks)}


def collate_evaluation(samples: list[Sample]) -> Batch:
    """Images of equal size -> uint8 (B, C, H, W); masks as a list, each uint8 (H, W) at its own size."""
    masks = [torch.from_numpy(np.ascontiguousarray(sample["mask"])) for sample in samples]
    return {**_stack_images(samples), "mask": masks}


def _stack_images(samples: list[Sample]) -> Batch:
    images = np.stack([sample["image"] for sample in samples])
    # As a view, the stack of (H, W, C) pictures already is a channels-last (B, C, H, W) tensor.
    image_BCHW = torch.from_numpy(images).permute(0, 3, 1, 2)
    return {"image": image_BCHW, "mask": [], "name": [sample["name"] for sample in samples]}


def _quiet_worker(worker: int) -> None:
    # OpenCV would start a thread a core in every worker.
    cv2.setNumThreads(0)
