"""Who goes where: by a seed, the same everywhere, or by a file."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from segmentation.data.dataset import SegmentationDataset
from segmentation.data.files import composed
from segmentation.data.splits import Split, read_split, split_names, write_split
from segmentation.errors import UserError
from segmentation.types import Classes, Sample

NAMES = sorted(f"n{number}" for number in range(100))
USUAL = (0.7, 0.15, 0.15)


class Named:
    def __init__(self, *names: str) -> None:
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        blank = np.zeros((1, 1), np.uint8)
        return {"image": np.zeros((1, 1, 3), np.uint8), "mask": blank, "name": self.names[index]}


def named(split: Split, names: Sequence[str]) -> dict[str, list[str]]:
    """The names at the places."""
    return {part: [names[place] for place in places] for part, places in split.items()}


def test_a_split_that_is_cut_off_leaves_the_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    whole = SegmentationDataset(Classes(("a", "b")), Named("x"), Named("y"), Named("z"))
    write_split(path, whole)
    earlier = path.read_bytes()
    with pytest.raises(UnicodeEncodeError):
        write_split(path, replace(whole, test=Named("\ud800")))
    assert path.read_bytes() == earlier


def test_fractions_are_met() -> None:
    assert [len(part) for part in split_names(NAMES, fractions=USUAL, seed=0).values()] == [70, 15, 15]


@settings(deadline=None, max_examples=50)
@given(
    names=st.sets(st.text(min_size=1, max_size=5), min_size=3, max_size=40),
    seed=st.integers(0, 2**32),
    parts=st.lists(st.integers(1, 10), min_size=3, max_size=3),
)
def test_every_name_lands_once_in_any_order_of_listing(names: set[str], seed: int, parts: list[int]) -> None:
    fractions = [part / sum(parts) for part in parts]
    assume(len(names) - sum(max(1, round(len(names) * fraction)) for fraction in fractions[1:]) >= 1)
    up, down = sorted(names), sorted(names, reverse=True)
    split = named(split_names(up, fractions=fractions, seed=seed), up)
    assert sorted(name for part in split.values() for name in part) == up
    assert all(split.values())
    again = named(split_names(down, fractions=fractions, seed=seed), down)
    assert split == {part: names[::-1] for part, names in again.items()}


def test_the_seed_matters_and_zero_is_one() -> None:
    splits = [split_names(NAMES, fractions=USUAL, seed=seed)["test"] for seed in (0, 1, 2)]
    assert len({tuple(split) for split in splits}) == 3


def test_stays_as_it_was() -> None:
    """Splits of published runs must not move with a version of Python or numpy."""
    names = [f"n{number}" for number in range(10)]
    split = named(split_names(names, fractions=USUAL, seed=0), names)
    assert split == {"train": ["n0", "n1", "n4", "n5", "n6", "n8"], "val": ["n3", "n7"], "test": ["n2", "n9"]}


def test_no_image_left_to_train() -> None:
    with pytest.raises(UserError, match="leave none of 3 images for train: increase"):
        split_names(NAMES[:3], fractions=(0.1, 0.6, 0.3), seed=0)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), min_size=1, max_size=8).map(
            composed
        ),
        min_size=3,
        unique=True,
    )
)
def test_any_names_survive_the_file(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    path = tmp_path_factory.mktemp("split") / "split.csv"
    train, val, *test = names
    write_split(path, SegmentationDataset(Classes(("a", "b")), Named(train), Named(val), Named(*test)))
    listed = sorted(names)
    split = named(read_split(path, listed), listed)
    assert split == {"train": [train], "val": [val], "test": sorted(test)}


@pytest.mark.parametrize("odd", [os.fsdecode(b"caf\xe9"), "folder/" * 60 + "a"], ids=["not UTF-8", "deep"])
def test_odd_names_survive_too(odd: str, tmp_path: Path) -> None:
    names = sorted([odd, "b", "c"])
    split = named(split_names(names, fractions=USUAL, seed=0), names)
    train, val, test = (Named(*part) for part in split.values())
    write_split(tmp_path / "s.csv", SegmentationDataset(Classes(("a", "b")), train, val, test))
    assert named(read_split(tmp_path / "s.csv", names), names) == split


@pytest.mark.parametrize("blank", ["", "\r\n\r\n", ",\r\n"])
def test_file_of_a_spreadsheet(blank: str, tmp_path: Path) -> None:
    rows = ("name,split\r\n", "a\u0308,train\r\n", "b,val\r\n", "c,test\r\n", "")
    (tmp_path / "s.csv").write_bytes(("\ufeff" + blank.join(rows)).encode())
    names = ["b", "c", "ä"]
    assert named(read_split(tmp_path / "s.csv", names), names)["train"] == ["ä"]


def test_what_is_written(tmp_path: Path) -> None:
    write_split(
        tmp_path / "s.csv", SegmentationDataset(Classes(("a", "b")), Named("x"), Named("y"), Named("z"))
    )
    assert (tmp_path / "s.csv").read_text().splitlines() == ["name,split", "x,train", "y,val", "z,test"]
