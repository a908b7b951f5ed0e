"""A source as Lightning sees it: loaders of batches, for training, validation and test."""

import signal
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, Literal

import cv2
import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader

from segmentation.data.augmentation import Transform, evaluation_transform
from segmentation.data.cache import cached
from segmentation.data.collate import collate_evaluation, collate_training
from segmentation.data.machine import cores
from segmentation.data.pairs import PairDataset
from segmentation.data.resized import resized
from segmentation.data.sampler import InOrder, Shares, Shuffled, Turns
from segmentation.data.source import Samples, Source
from segmentation.data.transformed import Transformed
from segmentation.sample import Batch, Sample
from segmentation.settings import DataSettings


class Loader(DataLoader[Sample]):
    """Draws nothing before the first batch is asked for: only then the trainer has told the sampler the epoch."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        yield from super().__iter__()


class SegmentationData(LightningDataModule):
    """Loaders over a `Source`; every random choice follows from `seed` and the epoch.

    `settings.size` (H, W) is what the model sees in training; `settings.resize` says whether whole images are
    brought to it, or crops are cut at the images' own resolution. These are then evaluated whole and one by
    one, because images of different sizes share no batch.

    Beside a trainer of several processes a batch is dealt to them: `settings.batch_size` is theirs together,
    and each process evaluates at least one image at a time.
    """

    def __init__(self, source: Source, training: Transform, settings: DataSettings, *, seed: int) -> None:
        super().__init__()
        self.source = source
        self.evaluation = evaluation_transform(**settings.input)
        self.training = training
        self._settings = settings
        self._batch_size = settings.batch_size
        self._evaluation_batch_size = settings.batch_size if settings.resize else 1
        self._workers = count_workers(settings.workers)
        self._seed = seed
        self._seen = 0

    def state_dict(self) -> dict[str, int]:
        """How much of its epoch the training has seen, so that a resumed run goes on in the middle of it."""
        assert self.trainer is not None
        batches = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        return {"batches": batches % int(self.trainer.num_training_batches)}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Leaves out these batches of the first pass."""
        self._seen = state_dict["batches"]

    def _take_seen(self) -> int:
        seen, self._seen = self._seen, 0
        return seen

    def train_dataloader(self) -> Loader:
        """Shuffled, augmented, masks stacked."""
        data = self._transformed("train", self.training)
        shares = self._shares(Shuffled(len(data), self._seed), self._batch_size, self._take_seen)
        return self._loader(data, shares, collate_training)

    def val_dataloader(self) -> Loader:
        """In order, images resized at most, masks at their own size."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> Loader:
        """As `val_dataloader`, over the test split."""
        return self._evaluation_loader("test")

    def turns_dataloader(self, *, process: int, processes: int) -> Loader:
        """Of the batches that `test_dataloader` gives to one process, those whose turn is `process`'s."""
        data = self._transformed("test", self.evaluation)
        order = InOrder(len(data))
        turns = Turns(order, self._evaluation_batch_size, process=process, processes=processes)
        return self._loader(data, turns, collate_evaluation)

    @cached_property
    def _splits(self) -> dict[str, Samples]:
        """What the transforms get: resized where all epochs do that alike, and out of the cache."""
        splits = self.source.splits()
        if self._settings.resize:
            size = self._settings.size
            splits = {
                split: resized(samples, size, masks=split == "train") for split, samples in splits.items()
            }
        if self._settings.cache != "none":
            # Test images are read once: they would not pay for their place.
            several = {split: samples for split, samples in splits.items() if split != "test"}
            splits |= cached(several)
            if self.source.test is self.source.val:
                splits["test"] = splits["val"]
        return splits

    def _transformed(self, split: str, transform: Transform) -> Transformed:
        decoded = isinstance(self.source.splits()[split], PairDataset) and self._settings.cache == "none"
        return Transformed(self._splits[split], transform, decoded=decoded)

    def _evaluation_loader(self, split: str) -> Loader:
        data = self._transformed(split, self.evaluation)
        shares = self._shares(InOrder(len(data)), self._evaluation_batch_size)
        return self._loader(data, shares, collate_evaluation)

    def _shares(self, sampler: Shuffled | InOrder, batch_size: int, first: Callable[[], int] = int) -> Shares:
        trainer = self.trainer
        process, processes = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        batch_size = max(batch_size, processes)
        return Shares(sampler, batch_size, process=process, processes=processes, first=first)

    def _loader(
        self, data: Transformed, batches: Shares | Turns, collate: Callable[[list[Sample]], Batch]
    ) -> Loader:
        return Loader(
            data,
            batch_sampler=batches,
            num_workers=self._workers,
            collate_fn=collate,
            worker_init_fn=_quiet_worker,
            persistent_workers=self._workers > 0,
            pin_memory=torch.cuda.is_available(),
            # Of its own: workers would else take a number from the stream that dropout draws from.
            generator=torch.Generator(),
        )


def count_workers(workers: int | Literal["auto"]) -> int:
    """Loader processes: the number given; for "auto" one for each core but one, at most 8, beside a GPU.

    Without a GPU it is none: loading takes a few percent of a step there, and a second process would fight
    with the training for the cores.
    """
    if workers != "auto":
        return workers
    return min(cores() - 1, 8) if torch.cuda.is_available() else 0


def _quiet_worker(worker: int) -> None:
    # OpenCV would start a thread a core in every worker.
    cv2.setNumThreads(0)
    # Signals that end a run reach its workers too, while the main process still wants its last batch of them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_the_next_time)


def _end_the_next_time(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
