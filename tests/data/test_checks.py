"""A look at the data before a run, spread and quick."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmentation.data import create_dataset
from segmentation.data.checks import check_samples
from segmentation.data.dataset import SegmentationDataset
from segmentation.data.files import evenly_spaced
from segmentation.errors import UserError
from segmentation.types import Classes, Sample


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


def source(train: Recorded, test: Recorded | None = None, *, binary: bool = False) -> SegmentationDataset:
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
    check_samples(source(train))
    assert len(train.read) == 16


def test_val_that_serves_as_test_is_read_once() -> None:
    val = Recorded(5)
    check_samples(SegmentationDataset(Classes(("a", "b")), Recorded(5), val, val))
    assert val.read == [0, 1, 2, 3, 4]


def test_empty_split() -> None:
    with pytest.raises(UserError, match="The test split holds no images"):
        check_samples(source(Recorded(3), Recorded(0)))


def test_nothing_to_learn_from() -> None:
    with pytest.raises(UserError, match="All pixels of the 3 train masks looked at are ignored"):
        check_samples(source(Recorded(3, 255)))


def test_0_and_255_are_suspicious_only_among_several_classes() -> None:
    with pytest.raises(UserError, match="dataset=binary"):
        check_samples(source(Recorded(3, 0, 255)))
    check_samples(source(Recorded(3, 0, 255), binary=True))


@pytest.mark.parametrize("binary", [False, True])
def test_the_built_in_data_is_good(binary: bool) -> None:
    built_in = create_dataset(name="shapes", size=48, train=2, val=2, test=2, binary=binary)
    check_samples(built_in)
    assert built_in.names()["train"] == [built_in.train[index]["name"] for index in range(2)]
