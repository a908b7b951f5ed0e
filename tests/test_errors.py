"""A message is one short line of printable characters, whatever it quotes."""

import pickle

import pytest

from segmentation.errors import UserError, closest, one_line, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("é 日本 e\u0301", "é 日本 e\u0301"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("file\udcff.png", r"file\udcff.png"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\u2028", r"\u2028"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == one_line(text) == str(UserError(text)) == shown


def test_a_long_value_loses_its_middle() -> None:
    message = str(UserError(f"backbone={'x' * 10_000_000} is unknown. Choose from: a, b."))
    assert message.startswith("backbone=xxx") and message.endswith(" is unknown. Choose from: a, b.")
    assert len(message) < 700


def test_a_message_survives_its_way_between_processes() -> None:
    error = UserError("a\x1bb")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_long_name_is_compared_quickly() -> None:
    assert "Choose from" in closest("x" * 10_000_000, ["resnet18", "resnet34"])
