"""The data module: a data set's splits -> transformed samples -> loaders of batches.

Ignored pixels (255) come from the mask decoders (`masks`), from augmentation (padding and dropout, `augmentation`) and
from samples that only fill up a batch (`TransformedDataset` below). Losses and metrics leave them out.
"""

import atexit
import shutil
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any, Literal
from weakref import WeakSet

import cv2
import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader, Dataset

from segmentation.config import DataSettings
from segmentation.data.augmentation import (
    TrainingTransform,
    Transform,
    evaluation_transform,
    resize_image,
    resize_mask,
)
from segmentation.data.cache import cached
from segmentation.data.dataset import (
    FileDataset,
    Fingerprint,
    Samples,
    SegmentationDataset,
    fingerprint_of,
    read_ahead,
)
from segmentation.data.samplers import (
    BalancedSampler,
    DistributedBatchSampler,
    RoundRobinBatchSampler,
    SampleIndex,
    SequentialSampler,
    ShuffledSampler,
)
from segmentation.data.windows import Windowed, read_part
from segmentation.errors import UserError
from segmentation.machine import cores
from segmentation.types import IGNORE_INDEX, Batch, Sample

_SHARED_MEMORY = Path("/dev/shm")
_PREFETCHED = 3
"""Batches of a loader process that may wait in shared memory: torch's two, and the one that the training reads."""


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
    # A view: a stack of (H, W, C) images is a channels-last (B, C, H, W) tensor.
    image_BCHW = torch.from_numpy(images).permute(0, 3, 1, 2)
    return {"image": image_BCHW, "mask": [], "name": [sample["name"] for sample in samples]}


def resized(samples: Samples, size: tuple[int, int], *, masks: bool) -> Samples:
    """The images, and with `masks` also their masks, resized to `size` (H, W); JPEGs may be decoded at reduced size."""
    if isinstance(samples, FileDataset):
        samples = replace(samples, min_size=size)
    return _Resized(samples, size, masks)


@dataclass(frozen=True)
class _Resized:
    samples: Samples
    size: tuple[int, int]
    masks: bool

    @property
    def names(self) -> Sequence[str]:
        """The names of the samples."""
        return self.samples.names

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        sample = self.samples[index]
        mask = resize_mask(sample["mask"], self.size) if self.masks else sample["mask"]
        return {"image": resize_image(sample["image"], self.size), "mask": mask, "name": sample["name"]}

    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the samples, with the size."""
        what, state = fingerprint_of(self.samples)
        return Fingerprint(f"{what}\n{self.size} {self.masks}", state)


class TransformedDataset(Dataset[Sample]):
    """Transformed samples; an index (`SampleIndex`) includes the seed of the augmentation.

    `decoded` says that samples are decoded from files, which several threads can do at the same time. With `windows`
    only a part of large images is read: see `windows.read_part`.
    """

    def __init__(
        self, samples: Samples, transform: Transform, *, decoded: bool, windows: bool = False
    ) -> None:
        self._samples = samples
        self._transform = transform
        self._decoded = decoded
        self._windows = windows

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, draw: SampleIndex) -> Sample:
        return self._transformed(self._read(draw), draw)

    def __getitems__(self, draws: list[SampleIndex]) -> list[Sample]:
        """The samples of a batch, for torch's loader.

        Without loader processes the samples are read by one thread per core.
        """
        samples = self._read_all(draws)
        return [self._transformed(sample, draw) for sample, draw in zip(samples, draws, strict=True)]

    def _read_all(self, draws: list[SampleIndex]) -> Iterable[Sample]:
        threads = torch.get_num_threads() if self._decoded else 1  # torch has one thread in a loader process
        if threads == 1:
            return map(self._read, draws)
        return read_ahead(self._read, draws, self._pool, ahead=threads)

    def _read(self, draw: SampleIndex) -> Sample:
        change = self._transform
        if self._windows and isinstance(change, TrainingTransform):
            return read_part(self._samples, draw.item, change.reach, change.size, draw.seed, draw.label)
        return self._samples[draw.item]

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(torch.get_num_threads())

    def _transformed(self, sample: Sample, draw: SampleIndex) -> Sample:
        if draw.label is not None and isinstance(self._transform, TrainingTransform):
            sample = self._transform(sample, draw.seed, draw.label)
        else:
            sample = self._transform(sample, draw.seed)
        if draw.padding:
            return {**sample, "mask": np.full_like(sample["mask"], IGNORE_INDEX)}
        return sample


_processes: WeakSet[BaseProcess] = WeakSet()


@atexit.register
def end_loader_processes() -> None:
    """Kills the loader processes that still run after an error or a signal.

    They ignore the first SIGTERM, which is all that they would get before the exit waits for them. From then on torch,
    which watches for their ends by SIGCHLD, no longer raises an error for them.
    """
    watched = hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread()
    if _processes and watched:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for process in _processes:
        process.kill()


class LoaderError(UserError):
    """A loader process that has ended, or cannot hand on its batches."""


class Loader(DataLoader[Sample]):
    """Starts its iterator at the first batch, because the trainer sets the sampler's epoch only after `iter`.

    Raises `LoaderError` where the machine has too little memory for the loader processes.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        try:
            batches = super().__iter__()
            _processes.update(getattr(batches, "_workers", ()))
            yield from batches
        except RuntimeError as error:
            if "shared memory" in str(error):
                raise LoaderError(
                    f"{_SHARED_MEMORY} is full: give more (docker run --shm-size=1g), or take data.workers=0"
                    " (evaluate.py: workers=0)."
                ) from error
            if "DataLoader worker" in str(error):
                raise LoaderError(
                    "The system has ended a loader process, mostly for want of memory. Take fewer data.workers or a"
                    " smaller data.batch_size (evaluate.py: workers, batch_size)."
                ) from error
            raise


class SegmentationData(LightningDataModule):
    """Loaders over a `SegmentationDataset`; every random choice follows from `seed` and the epoch.

    `settings.size` (H, W) is the size of training images. With `settings.resize` whole images are resized to it.
    Without, training uses windows of this size at the images' own resolution, as many in an epoch as cover the area of
    all images, and whole images are evaluated one by one, because images of different sizes do not fit in one batch.

    If the trainer has several processes, they share each batch: `settings.batch_size` counts the images of all
    processes, and each process evaluates at least one image at a time.
    """

    def __init__(
        self, dataset: SegmentationDataset, training: Transform, settings: DataSettings, *, seed: int
    ) -> None:
        super().__init__()
        self.dataset = dataset
        self.evaluation = evaluation_transform(**settings.input)
        self.training = training
        self._settings = settings
        self._batch_size = settings.batch_size
        self._evaluation_batch_size = settings.batch_size if settings.resize else 1
        self._workers = count_workers(settings.workers)
        _check_shared_memory(self._workers, settings)
        self._seed = seed
        self._seen = 0

    def state_dict(self) -> dict[str, int]:
        """The number of batches of the epoch so far, so that a resumed run can continue in the middle of an epoch."""
        assert self.trainer is not None
        batches = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        return {"batches": batches % int(self.trainer.num_training_batches)}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Skips these batches in the first epoch. Raises `ValueError` for a number that no epoch has."""
        self._seen = int(state_dict["batches"])
        if not 0 <= self._seen < 2**31:
            raise ValueError(f"{self._seen} batches")

    def _pop_seen(self) -> int:
        """The number of batches to skip: once, then 0."""
        seen, self._seen = self._seen, 0
        return seen

    def train_dataloader(self) -> Loader:
        """Batches in random order, augmented, with masks (B, H, W).

        With the trainer's `overfit_batches` the first ones of the split, the same and augmented alike in every epoch.
        """
        data = self._transformed("train", self.training)
        same = self.trainer is not None and self.trainer.overfit_batches > 0  # type: ignore[attr-defined]
        order = SequentialSampler(len(data)) if same else self._training_order()
        shares = self._shares(order, self._batch_size, self._pop_seen)
        return self._loader(data, shares, collate_training)

    def _training_order(self) -> ShuffledSampler:
        samples, settings = self._splits["train"], self._settings
        times = self.dataset.often if settings.resize else self._windows
        if settings.sampler == "shuffled":
            return ShuffledSampler(len(samples), self._seed, times)
        counts = self.dataset.counts
        assert counts is not None, "count_classes is called where the data set is opened"
        return BalancedSampler(counts > 0, self._seed, times, often=self.dataset.often, focus=settings.focus)

    @cached_property
    def _windows(self) -> np.ndarray:
        """float64 (N,): the windows of each training image in an epoch, as many as cover its area."""
        samples, (height, width) = self.dataset.train, self._settings.size
        often = np.ones(len(samples)) if self.dataset.often is None else self.dataset.often
        if not isinstance(samples, Windowed):
            return often
        with ThreadPoolExecutor(cores()) as pool:
            areas = np.array(
                [rows * columns for rows, columns in pool.map(samples.size, range(len(samples)))]
            )
        windows: np.ndarray = often * np.maximum(1, np.rint(areas / (height * width)))
        return windows

    def val_dataloader(self) -> Loader:
        """Batches in order, not augmented, with each mask at its own size."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> Loader:
        """The same as `val_dataloader`, for the test split."""
        return self._evaluation_loader("test")

    def round_robin_dataloader(self, *, process: int, processes: int) -> Loader:
        """Every `processes`th batch of the test split, starting with batch number `process`.

        The batches are those of `test_dataloader` in a single process.
        """
        data = self._transformed("test", self.evaluation)
        order = SequentialSampler(len(data))
        turns = RoundRobinBatchSampler(
            order, self._evaluation_batch_size, process=process, processes=processes
        )
        return self._loader(data, turns, collate_evaluation)

    @cached_property
    def _splits(self) -> dict[str, Samples]:
        """The samples before the transforms: resized if that is the same in all epochs, and cached."""
        splits = self.dataset.splits()
        if self._settings.resize:
            size = self._settings.size
            splits = {
                split: resized(samples, size, masks=split == "train") for split, samples in splits.items()
            }
        if self._settings.cache != "none":
            # Test images are read only once, so that a cache of them does not pay.
            several = {split: samples for split, samples in splits.items() if split != "test"}
            splits |= cached(several)
            if self.dataset.test is self.dataset.val:
                splits["test"] = splits["val"]
        return splits

    def _transformed(self, split: str, transform: Transform) -> TransformedDataset:
        windowed = isinstance(self.dataset.splits()[split], Windowed)
        decoded = windowed and self._settings.cache == "none"
        windows = windowed and not self._settings.resize
        return TransformedDataset(self._splits[split], transform, decoded=decoded, windows=windows)

    def _evaluation_loader(self, split: str) -> Loader:
        data = self._transformed(split, self.evaluation)
        shares = self._shares(SequentialSampler(len(data)), self._evaluation_batch_size)
        return self._loader(data, shares, collate_evaluation)

    def _shares(
        self,
        sampler: ShuffledSampler | SequentialSampler,
        batch_size: int,
        first_batch: Callable[[], int] = int,
    ) -> DistributedBatchSampler:
        trainer = self.trainer
        process, processes = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        batch_size = max(batch_size, processes)
        return DistributedBatchSampler(
            sampler, batch_size, process=process, processes=processes, first_batch=first_batch
        )

    def _loader(
        self,
        data: TransformedDataset,
        batches: DistributedBatchSampler | RoundRobinBatchSampler,
        collate: Callable[[list[Sample]], Batch],
    ) -> Loader:
        return Loader(
            data,
            batch_sampler=batches,
            num_workers=self._workers,
            collate_fn=collate,
            worker_init_fn=_quiet_worker,
            persistent_workers=self._workers > 0,
            pin_memory=torch.cuda.is_available(),
            # Without a generator of its own the loader would draw from torch's global one, which dropout uses.
            generator=torch.Generator(),
        )


def count_workers(workers: int | Literal["auto"]) -> int:
    """The number of loader processes: `workers`, or for "auto" with a GPU one less than the cores, at most 8.

    For "auto" without a GPU it is 0: loading takes a few percent of a step there, and loader processes would compete
    with the training for the cores.
    """
    if workers != "auto":
        return workers
    return min(cores() - 1, 8) if torch.cuda.is_available() else 0


def _check_shared_memory(workers: int, settings: DataSettings) -> None:
    """Raises `UserError` where loader processes have too little shared memory for their batches."""
    if workers == 0 or not _SHARED_MEMORY.is_dir():
        return
    height, width = settings.size
    batch = settings.batch_size * (settings.channels + 1) * height * width
    free = shutil.disk_usage(_SHARED_MEMORY).free
    if free < workers * _PREFETCHED * batch:
        raise UserError(
            f"{_SHARED_MEMORY} has {free / 1e6:.0f} MB free; {workers} loader processes need"
            f" {workers * _PREFETCHED * batch / 1e6:.0f} for their batches. Give more (docker run --shm-size=1g), or"
            f" take data.workers={free // (_PREFETCHED * batch)}."
        )


def _quiet_worker(worker: int) -> None:
    # OpenCV would start one thread per core in every worker.
    cv2.setNumThreads(0)
    # Signals that end a run also reach its workers, but the main process still needs the last batch from them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _restore_default)
    Queue._on_queue_feeder_error = _put_error  # type: ignore[attr-defined]


def _put_error(queue: Queue, error: Exception, batch: tuple[int, Any]) -> None:
    """Hands on the error in place of a batch that does not fit into shared memory, which would be waited for."""
    queue.put((batch[0], ExceptionWrapper(where="in a loader process")))


def _restore_default(*_: object) -> None:
    """Ignores the first SIGTERM; the next one ends the worker."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
