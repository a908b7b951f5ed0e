"""File names as they may be typed on a command line."""

import sys
from pathlib import Path

import hydra
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from segmentation.cli.overrides import (
    Command,
    as_plain_data,
    quote_paths,
    quoted,
    unquoted,
    without_leftovers,
)
from segmentation.config import read_training_settings
from segmentation.errors import UserError
from segmentation.options import flat

NAMES = [
    "IMG (1), a=b [x] it's ü.jpg",
    "runs/a=1,b=2/best.ckpt",
    "shots/**/*.png",
    "{a: b}\\",
    "a\\'b",
    '"',
    "null.d",
]


def parsed(*arguments: str) -> list[object]:
    return [override.value() for override in OverridesParser.create().parse_overrides(list(arguments))]


@pytest.mark.parametrize("name", NAMES)
def test_any_file_name_may_be_typed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "argv", ["predict.py", f"input={name}", f"++output={quoted(name)}", "tta=[flip]"]
    )
    quote_paths("input", "output")
    assert parsed(*sys.argv[1:]) == [name, name, ["flip"]]


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n$"), min_size=1))
def test_quotes_come_off_again(name: str) -> None:
    assert parsed(f"input={quoted(name)}") == [name]
    assert unquoted(quoted(name)) == name


def test_a_home_is_found_and_nothing_stays_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["input=~/a b", "output=~no_such_user/x", "split=null", "--config-dir=~/conf", "other=~"]
    monkeypatch.setattr(sys, "argv", ["train.py", *given])
    quote_paths("input", "output", "split")
    home = Path.home()
    assert sys.argv[1:] == [
        f"input='{home}/a b'",
        "output='~no_such_user/x'",
        "split=null",
        f"--config-dir={home}/conf",
        "other=~",
    ]


@pytest.mark.parametrize("argument", ["input=", "+input=''", 'input=""'])
def test_an_empty_path_is_not_the_folder_one_is_in(argument: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["predict.py", argument])
    with pytest.raises(UserError, match="input= is empty: give it a value"):
        quote_paths("output", lists=["input"])


def test_in_a_sweep_commas_part_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", "input=a,b", "output=a b"])
    quote_paths("input", "output")
    assert sys.argv[2:] == ["input=a,b", "output='a b'"]


@pytest.mark.parametrize(
    ("typed", "left"),
    [
        ((), []),
        (("scheduler=poly",), ["scheduler.min_lr"]),
        (("scheduler=plateau",), []),
        (("scheduler=poly", "loss=focal"), ["scheduler.min_lr"]),
    ],
)
def test_what_an_experiment_leaves_for_another_choice_is_left_out(
    typed: tuple[str, ...], left: list[str]
) -> None:
    overrides = ("experiment=binary_resnet50", "dataset.root=x", *typed)
    command = Command.parse(overrides, "train")
    with command.config_loader():
        composed = hydra.compose("train", list(overrides), return_hydra_config=True)
    kept, notes = without_leftovers(composed, composed.hydra)
    dropped = {option for option in flat(as_plain_data(composed)) if option not in flat(as_plain_data(kept))}
    assert sorted(dropped) == left
    assert [note.split()[2].rstrip(",") for note in notes] == left
    assert as_plain_data(command.compose(overrides)) == as_plain_data(kept)
    read_training_settings(as_plain_data(kept))


def test_what_was_typed_stays_and_is_an_error() -> None:
    overrides = ("experiment=binary_resnet50", "dataset.root=x", "scheduler=poly", "+scheduler.gamma=1")
    kept = as_plain_data(Command.parse(overrides, "train").compose(overrides))
    assert kept["scheduler"]["gamma"] == 1
