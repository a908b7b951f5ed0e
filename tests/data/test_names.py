"""Names in a block of bytes behave as a list of strings does."""

import os
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmentation.data.files import Codes, Names, common

ODD = os.fsdecode(b"caf\xe9")
texts = st.lists(st.text(max_size=6) | st.just(ODD))


@given(texts)
def test_as_a_list(names: list[str]) -> None:
    packed = Names.of(names)
    assert (len(packed), list(packed), packed) == (len(names), names, names)
    assert [packed[index] for index in range(-len(names), len(names))] == names + names
    assert packed[1:3] == names[1:3]
    assert packed != [*names, "x"]
    assert pickle.loads(pickle.dumps(packed)) == packed
    with pytest.raises(IndexError):
        packed[len(names)]


def test_longer_than_a_stride() -> None:
    names = [str(number) for number in range(10_000)]
    assert list(Names.of(names)) == names


@given(st.sets(st.text(max_size=4)), st.text(max_size=4))
def test_places_among_sorted_names(names: set[str], asked: str) -> None:
    packed = Names.of(sorted(names))
    assert packed.place(asked) == (sorted(names).index(asked) if asked in names else None)


@given(st.sets(st.text(max_size=2)), st.sets(st.text(max_size=2)))
def test_common(one: set[str], other: set[str]) -> None:
    assert list(common(sorted(one), sorted(other))) == sorted(one & other)


def test_codes() -> None:
    words = Codes.of(["jpg", "png", "jpg", "JPG"])
    assert [words[index] for index in range(len(words))] == ["jpg", "png", "jpg", "JPG"]
    assert [words.take(np.array([3, 1]))[index] for index in range(2)] == ["JPG", "png"]
