"""Checks of a data set before a run, and samples read by several threads."""

import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from made_data import fill, mask, save

from segmentation.config import DataSettings
from segmentation.data import create_dataset
from segmentation.data.augmentation import training_transform
from segmentation.data.datamodule import SegmentationData
from segmentation.data.dataset import SegmentationDataset, read_ahead
from segmentation.errors import UserError
from segmentation.types import Batch, Sample


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def photographs(root: Path) -> SegmentationDataset:
    random = np.random.default_rng(0)
    for number in range(14):
        pixels = random.integers(0, 256, (40, 60, 3), dtype=np.uint8)
        save(root / "images" / f"p{number:02}.{'jpg' if number % 2 else 'png'}", pixels)
        save(
            root / "masks" / f"p{number:02}.png",
            mask(0, 255, height=40, width=60),
            "P" if number % 3 else "L",
        )
    return create_dataset(name="binary", root=str(root))


def batches(data: SegmentationDataset, threads: int, *, resize: bool = False) -> list[Batch]:
    torch.set_num_threads(threads)
    settings = DataSettings(size=(32, 32), resize=resize, batch_size=4, workers=0)
    changes = training_transform(**settings.input, scale=[0.5, 2.0], flip=0.5, colour=0.5)
    module = SegmentationData(data, changes, settings, seed=1)
    return [*module.train_dataloader(), *module.val_dataloader(), *module.test_dataloader()]


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("resize", [True, False])
def test_the_same_batches(resize: bool, tmp_path: Path) -> None:
    data = photographs(tmp_path)
    for one, other in zip(batches(data, 1, resize=resize), batches(data, 3, resize=resize), strict=True):
        assert one["name"] == other["name"]
        assert torch.equal(one["image"], other["image"])
        assert all(map(torch.equal, one["mask"], other["mask"]))


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("count", [1, 3])
def test_a_bad_file_is_named(count: int, tmp_path: Path) -> None:
    data = photographs(tmp_path)
    bad = tmp_path / "images" / f"{data.train.names[3]}"
    next(iter(tmp_path.glob(f"images/{bad.name}.*"))).write_bytes(b"no picture")
    with pytest.raises(UserError, match=f"{bad.name}.*cannot be read"):
        batches(data, count)


@pytest.mark.usefixtures("threads")
def test_warnings_are_as_strict_afterwards(tmp_path: Path) -> None:
    data = photographs(tmp_path)
    before = list(warnings.filters)
    batches(data, 3)
    assert list(warnings.filters) == before


class Slow:
    """Samples of which the first takes longest; `begun` are those that were asked for."""

    def __init__(self) -> None:
        self.begun: list[int] = []

    @property
    def names(self) -> Sequence[str]:
        return [str(index) for index in range(len(self))]

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Sample:
        self.begun.append(index)
        time.sleep(0.05 if index == 0 else 0)
        return {
            "image": np.zeros((1, 1, 3), np.uint8),
            "mask": np.zeros((1, 1), np.uint8),
            "name": str(index),
        }


@pytest.mark.parametrize("ahead", [1, 4])
def test_in_order_and_not_too_far_ahead(ahead: int) -> None:
    samples = Slow()
    with ThreadPoolExecutor(3) as pool:
        for place, sample in enumerate(read_ahead(samples.__getitem__, range(20), pool, ahead=ahead)):
            assert sample["name"] == str(place)
            assert len(samples.begun) <= place + ahead + 1
    assert sorted(samples.begun) == list(range(20))


def test_nothing_is_read_any_more_once_a_sample_has_failed() -> None:
    class Failing(Slow):
        def __getitem__(self, index: int) -> Sample:
            if index == 0:
                raise UserError("0 is bad")
            time.sleep(0.02)
            ended.append(index)
            return super().__getitem__(index)

    ended: list[int] = []
    with ThreadPoolExecutor(3) as pool:
        with pytest.raises(UserError, match="0 is bad"):
            list(read_ahead(Failing().__getitem__, range(20), pool, ahead=2))
        assert sorted(ended) == [1, 2]


@pytest.mark.usefixtures("threads")
def test_only_files_are_read_by_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Made-up and cached samples would only wait for Python's lock.
    given: list[int] = []
    monkeypatch.setattr(
        "segmentation.data.datamodule.read_ahead", lambda *_, ahead: given.append(ahead) or iter(())
    )
    assert batches(create_dataset(name="shapes", train=4, val=4, test=4), 2)
    assert not given
    with pytest.raises(ValueError, match="longer"):
        batches(create_dataset(name="binary", root=str(fill(tmp_path, 6))), 2)
    assert given == [2]
