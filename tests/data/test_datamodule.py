"""Loader processes: their number, and the memory that they share."""

import shutil
from collections import namedtuple
from typing import Any

import pytest
from conftest import composed

from segmentation.build import build_data
from segmentation.config import read_training_settings
from segmentation.data import open_dataset
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
