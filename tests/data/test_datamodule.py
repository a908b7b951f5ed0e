"""Loader processes: their number, and the memory that they share."""

import multiprocessing
import shutil
import signal
from collections import namedtuple
from typing import Any
from weakref import WeakSet

import pytest
import torch
from conftest import composed

from segmentation.build import build_data
from segmentation.config import read_training_settings
from segmentation.data import datamodule, open_dataset
from segmentation.data.datamodule import end_loader_processes
from segmentation.errors import UserError

Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(
    ("free", "workers", "words"),
    [
        (64_000_000, 2, ""),
        (1_000_000, 0, ""),
        # Batches of 8 images with 4 bytes a pixel: 2.1 MB, three of each process.
        (1_000_000, 2, "/dev/shm has 1 MB free; 2 loader processes need 13 .* data.workers=0"),
        (10_000_000, 4, "/dev/shm has 10 MB free; 4 loader processes need 25 .* data.workers=1"),
    ],
)
def test_too_little_shared_memory_is_said_before_it_hangs(
    free: int, workers: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage: Any = Usage(free, 0, free)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    few = [f"dataset.{split}=1" for split in ("train", "val", "test")]
    settings = read_training_settings(composed(f"data.workers={workers}", *few, "data.size=[256,256]"))
    dataset = open_dataset(**settings.dataset)
    if not words:
        build_data(settings, dataset)
        return
    with pytest.raises(UserError, match=f"^{words}\\.$"):
        build_data(settings, dataset)


def test_a_batch_that_shared_memory_cannot_hold_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole images may be larger than the batches of training for which there was room."""

    def full(storage: torch.UntypedStorage) -> None:
        raise RuntimeError(
            "unable to allocate shared memory(shm) for file </torch_1_2>: No space left on device"
        )

    monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", full)
    few = [f"dataset.{split}=1" for split in ("train", "val", "test")]
    settings = read_training_settings(composed("data.workers=1", "data.resize=false", *few))
    loader = build_data(settings, open_dataset(**settings.dataset)).val_dataloader()
    with pytest.raises(UserError, match=r"^/dev/shm is full[^\n]*\.$"):
        next(iter(loader))


def test_no_loader_process_outlives_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    # Loaders of earlier tests may wait for the garbage collector: torch would miss their processes.
    monkeypatch.setattr(datamodule, "_processes", WeakSet())
    few = [f"dataset.{split}=1" for split in ("train", "val", "test")]
    settings = read_training_settings(composed("data.workers=1", *few))
    loader = build_data(settings, open_dataset(**settings.dataset)).val_dataloader()
    earlier, batches = {*multiprocessing.active_children()}, iter(loader)
    next(batches)
    (process,) = {*multiprocessing.active_children()} - earlier
    process.terminate()  # as multiprocessing does at exit, before it waits
    process.join(0.5)
    assert process.is_alive()
    watching = signal.getsignal(signal.SIGCHLD)
    try:
        end_loader_processes()
        process.join(5)
    finally:
        signal.signal(signal.SIGCHLD, watching)
    assert process.exitcode == -signal.SIGKILL
