"""Whatever is wrong with a data set ends in one short message that names it."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_data import devkit, divided, flat, folders
from malformed import MALFORMED, Malformed

from segmentation.data import create_dataset
from segmentation.data.checks import check_samples
from segmentation.errors import UserError


@pytest.mark.parametrize("case", MALFORMED, ids=lambda case: case.id)
def test_one_short_message(case: Malformed, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    options = case.make(tmp_path)
    with pytest.raises(UserError) as caught:
        check_samples(create_dataset(**options))
    assert capfd.readouterr() == ("", ""), "a library spoke as well"
    message = str(caught.value)
    # Where the data lies is the user's choice: its length is none of ours.
    assert len(message.replace(str(tmp_path), "")) <= 300
    assert "\n" not in message
    assert [word for word in case.words if word not in message] == [], message


@pytest.mark.parametrize("build", [flat, divided, folders, devkit])
def test_what_they_spoil_is_good(build: Callable[[Path], dict[str, Any]], tmp_path: Path) -> None:
    check_samples(create_dataset(**build(tmp_path)))


def test_there_are_many_and_they_differ() -> None:
    assert len({case.id for case in MALFORMED}) == len(MALFORMED) >= 30


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("binry", {}, ("dataset=binry", "Did you mean 'binary'")),
        ("os.system", {}, ("dataset=os.system", "Choose from")),
        ("binary", {"rot": "x"}, ("'dataset.rot'", "Did you mean 'root'")),
        ("binary", {}, ("dataset.root is missing",)),
        ("voc", {"root": "x", "threshold": 1}, ("'dataset.threshold'", "train_list")),
        ("shapes", {"size": "big"}, ("dataset.size=big",)),
    ],
)
def test_names_and_options(name: str, options: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as caught:
        create_dataset(name=name, **options)
    assert all(word in str(caught.value) for word in words), caught.value


def test_reading_leaves_the_filters_of_warnings_alone(tmp_path: Path) -> None:
    before = list(warnings.filters)
    check_samples(create_dataset(**flat(tmp_path)))
    assert warnings.filters == before
