"""The built-in data: made from the seed alone, and told apart by shape alone."""

import numpy as np
import pytest

from segmentation.data.shapes import shapes
from segmentation.errors import UserError


def test_the_seed_makes_the_data() -> None:
    once, again, other = shapes(seed=3), shapes(seed=3), shapes(seed=4)
    assert np.array_equal(once.train[5]["image"], again.train[5]["image"])
    assert not np.array_equal(once.train[5]["image"], other.train[5]["image"])
    assert not np.array_equal(once.train[5]["image"], once.val[5]["image"])


@pytest.mark.parametrize("binary", [False, True])
def test_every_class_occurs_and_none_beyond(binary: bool) -> None:
    dataset = shapes(binary=binary, train=40, size=64)
    samples = [dataset.train[index] for index in range(40)]
    assert all(
        sample["image"].shape == (64, 64, 3) and sample["image"].dtype == np.uint8 for sample in samples
    )
    labels = np.unique(np.stack([sample["mask"] for sample in samples]))
    assert labels.tolist() == list(range(len(dataset.classes)))
    assert [sample["name"] for sample in samples] == list(dataset.train.names)
    with pytest.raises(IndexError):
        dataset.train[40]


def test_colour_does_not_tell_the_classes_apart() -> None:
    dataset = shapes(train=150)
    means: dict[int, list[np.ndarray]] = {label: [] for label in range(1, 4)}
    for index in range(150):
        sample = dataset.train[index]
        for label in set(np.unique(sample["mask"])) - {0}:
            means[int(label)].append(sample["image"][sample["mask"] == label].mean(axis=0))
    centres = np.array([np.mean(colours, axis=0) for colours in means.values()])
    spread = np.mean([np.std(colours, axis=0).mean() for colours in means.values()])
    assert np.ptp(centres, axis=0).max() < 0.5 * spread


@pytest.mark.parametrize("wrong", [{"size": 8}, {"val": 0}, {"seed": -1}])
def test_impossible_options(wrong: dict[str, int]) -> None:
    with pytest.raises(UserError, match=f"dataset.{next(iter(wrong))}="):
        shapes(**wrong)
