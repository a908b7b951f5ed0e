"""Several data sets as one."""

import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_data import folders

from segmentation.data import create_dataset, open_dataset
from segmentation.data.cache import cached
from segmentation.data.dataset import SegmentationDataset, with_pixel_range
from segmentation.data.mix import mix
from segmentation.data.pixel_range import PixelRange, to_bytes
from segmentation.errors import UserError
from segmentation.types import Classes, Sample


def two(root: Path, **changes: Any) -> dict[str, Any]:
    return {
        "name": "mix",
        "sets": {"real": {**folders(root / "a"), "weight": 3}, "made": {**folders(root / "b"), **changes}},
    }


def test_splits_are_joined_and_an_epoch_is_shared_by_weight(tmp_path: Path) -> None:
    dataset = open_dataset(**two(tmp_path))
    assert list(dataset.train.names) == ["real/p0", "real/p1", "made/p0", "made/p1"]
    assert dataset.val[1]["name"] == "real/p11"
    assert dataset.test[3]["name"] == "made/p21"
    assert dataset.often is not None and dataset.often.tolist() == [1.5, 1.5, 0.5, 0.5]
    alone = create_dataset(**folders(tmp_path / "c")).train[1]
    part = dataset.train.window(3, slice(1, 4), slice(2, 9))  # type: ignore[attr-defined]
    assert np.array_equal(part["mask"], alone["mask"][1:4, 2:9])
    assert cached({"train": dataset.train})["train"][3]["name"] == "made/p1"
    with pytest.raises(IndexError):
        dataset.train[4]


alive: list[weakref.ref[np.ndarray]] = []


@dataclass(frozen=True)
class Wide:
    """Two images of 16 bits, all of one value."""

    value: int
    pixel_range: PixelRange | None = None
    names = ("a", "b")

    def __len__(self) -> int:
        return 2

    def values(self, index: int) -> np.ndarray:
        assert sum(values() is not None for values in alive) <= 1, "whole images are kept"
        values = np.full((4, 4, 1), self.value, np.uint16)
        alive.append(weakref.ref(values))
        return values

    def __getitem__(self, index: int) -> Sample:
        pixels = to_bytes(self.values(index), self.pixel_range, "a")
        return {"image": pixels, "mask": np.zeros((4, 4), np.uint8), "name": self.names[index]}


@pytest.mark.parametrize("choice", ["auto", [0, 1000]])
def test_the_pixel_range_is_that_of_all_parts(choice: Any) -> None:
    def part(value: int, often: list[float] | None = None) -> SegmentationDataset:
        split = Wide(value)
        drawn = None if often is None else np.array(often)
        return SegmentationDataset(
            Classes(("a", "b"), binary=True), split, split, split, channels=1, often=drawn
        )

    mixed = mix({"dark": part(0), "light": part(1000, [3.0, 1.0])}, [1, 1])
    dataset = with_pixel_range(mixed, choice)
    assert [int(dataset.train[index]["image"].max()) for index in range(4)] == [0, 0, 255, 255]
    assert dataset.pixel_range is not None
    assert dataset.often is not None and dataset.often.tolist() == [1, 1, 1.5, 0.5]


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        ([], "two or more"),
        ({"a": {"name": "shapes"}}, "two or more"),
        ({"a": {"name": "shapes"}, "b": 3}, "two or more"),
        ([{"name": "shapes", "weight": 0}, {"name": "shapes"}], "weight=0"),
        ([{"name": "shapes"}, {"name": "shapes", "binary": True}], "same, in the same order"),
        ([{"name": "shapes"}, {"name": "shapes", "sise": 3}], "dataset.sise"),
    ],
)
def test_what_cannot_be_mixed_is_one_line(sets: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        create_dataset(name="mix", sets=sets)
