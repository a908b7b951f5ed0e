"""Several data sets as one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_data import folders

from segmentation.data import create_dataset, open_dataset
from segmentation.data.cache import cached
from segmentation.errors import UserError


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
