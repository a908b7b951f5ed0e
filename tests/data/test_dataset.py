"""Checks of a data set before a run, and samples read by several threads."""

import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_data import fill, mask, save

from segmentation.config import DataSettings
from segmentation.data import create_dataset
from segmentation.data.augmentation import training_transform
from segmentation.data.datamodule import SegmentationData
from segmentation.data.dataset import SegmentationDataset, check_samples, read_ahead
from segmentation.data.files import evenly_spaced
from segmentation.errors import UserError
from segmentation.types import Batch, Classes, Sample


class Recorded:
    """`length` equal samples that remember which of them were read."""

    def __init__(self, length: int, *labels: int) -> None:
        self.length = length
        self.labels = labels or (0, 1)
        self.read: list[int] = []

    @property
    def names(self) -> list[str]:
        return [str(index) for index in range(self.length)]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        self.read.append(index)
        mask = np.array([self.labels], np.uint8)
        return {"image": np.zeros((*mask.shape, 3), np.uint8), "mask": mask, "name": str(index)}


def dataset_of(train: Recorded, test: Recorded | None = None, *, binary: bool = False) -> SegmentationDataset:
    val = Recorded(5)
    return SegmentationDataset(Classes(("a", "b"), binary=binary), train, val, val if test is None else test)


@given(st.integers(1, 10**6), st.integers(2, 20))
def test_spread(length: int, count: int) -> None:
    places = evenly_spaced(length, count)
    assert places == sorted(set(places))
    assert len(places) == min(length, count)
    assert (places[0], places[-1]) == (0, length - 1)
    gaps = np.diff(places)
    assert not len(gaps) or gaps.max() - gaps.min() <= 1


def test_few_samples_of_many_are_read() -> None:
    train = Recorded(1_000_000)
    check_samples(dataset_of(train))
    assert len(train.read) == 16


def test_val_that_serves_as_test_is_read_once() -> None:
    val = Recorded(5)
    check_samples(SegmentationDataset(Classes(("a", "b")), Recorded(5), val, val))
    assert val.read == [0, 1, 2, 3, 4]


def test_empty_split() -> None:
    with pytest.raises(UserError, match="The test split has no images"):
        check_samples(dataset_of(Recorded(3), Recorded(0)))


def test_nothing_to_learn_from() -> None:
    with pytest.raises(UserError, match="All pixels are ignored in the 3 train masks that were checked"):
        check_samples(dataset_of(Recorded(3, 255)))


def test_0_and_255_are_suspicious_only_among_several_classes() -> None:
    with pytest.raises(UserError, match="dataset=binary"):
        check_samples(dataset_of(Recorded(3, 0, 255)))
    check_samples(dataset_of(Recorded(3, 0, 255), binary=True))


@pytest.mark.parametrize("binary", [False, True])
def test_the_built_in_data_is_good(binary: bool) -> None:
    built_in = create_dataset(name="shapes", size=48, train=2, val=2, test=2, binary=binary)
    check_samples(built_in)
    assert built_in.names()["train"] == [built_in.train[index]["name"] for index in range(2)]


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
        for place, sample in enumerate(read_ahead(samples, range(20), pool, ahead=ahead)):
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
            list(read_ahead(Failing(), range(20), pool, ahead=2))
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
