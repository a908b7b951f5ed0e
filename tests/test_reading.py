"""Small text files of strangers: every one is read quickly, or is one line of an error."""

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from segmentation.errors import UserError
from segmentation.reading import last_line, read_bytes, read_json, read_text, read_yaml


@pytest.mark.parametrize("read", [read_yaml, read_json, read_text, last_line])
def test_pipes_devices_and_folders_are_refused_at_once(read: Callable[[Path], Any], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    for name in ("pipe", "zeros"):
        with pytest.raises(UserError, match=f"{name} is no file"):
            read(tmp_path / name)
    with pytest.raises((UserError, IsADirectoryError)):
        read(tmp_path)


def test_a_link_to_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "classes.yaml").write_text("names: [a, b]\n")
    (tmp_path / "link").symlink_to(tmp_path / "classes.yaml")
    assert read_yaml(tmp_path / "link") == {"names": ["a", "b"]}


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 11)
    assert len(read_bytes(tmp_path / "a", 11)) == 11
    with pytest.raises(UserError, match="larger than 10 bytes"):
        read_bytes(tmp_path / "a", 10)
    with (tmp_path / "sparse.yaml").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(UserError, match="larger than"):
        read_yaml(tmp_path / "sparse.yaml")


def bomb(lines: int = 9) -> str:
    return "a0: &a0 [x]\n" + "".join(
        f"a{line}: &a{line} [{', '.join([f'*a{line - 1}'] * 9)}]\n" for line in range(1, lines)
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 5000, "nested deeper"),
        ("- " * 5000 + "x", "nested deeper"),
        ("{a: " * 5000, "nested deeper"),
        (bomb(), "aliases such as \\*a0"),
        ("a: &a [*a]", "aliases"),
        ("day: 2024-99-01", "correct the YAML"),
        (f"size: {'9' * 5000}", "correct the YAML"),
        ("a: !!python/object/apply:os.system [true]", "line 1: could not determine a constructor"),
        ("a: [1", "line 1"),
        ("? [a]\n: 1", "correct the YAML"),
        ("a: \x1b[31m", "correct the YAML"),
        ("a: !!binary x", "correct the YAML"),
    ],
)
def test_hostile_yaml_is_one_line(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        read_yaml(tmp_path / "a.yaml")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 700


@pytest.mark.parametrize("text", ["[" * 100_000, f'{{"a": {"9" * 5000}}}', "{", "\x00", '"\\ud800'])
def test_hostile_json_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match="correct the JSON"):
        read_json(tmp_path / "a.json")


def test_the_last_line_is_short_and_printable(tmp_path: Path) -> None:
    assert last_line(tmp_path / "error.txt") == ""
    (tmp_path / "error.txt").write_bytes(b"Traceback\n\x1b]0;owned\x07" + b"x" * 5000 + b"\xff\n\n")
    line = last_line(tmp_path / "error.txt")
    assert line.startswith(r"\x1b]0;owned\x07xxx") and line.isprintable() and len(line) < 700


def test_what_was_written_is_read(tmp_path: Path) -> None:
    content = {"a": [1, 2.5, None, True, "2024-01-01", "é", "1e-3"], "b": {"c": [], "d": {}}}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(content))
    assert read_yaml(tmp_path / "a.yaml") == content


PIECES = (
    *(
        "[",
        "]",
        "{",
        "}",
        ": ",
        "- ",
        "\n",
        "  ",
        "&a ",
        "*a",
        "!!int ",
        "!!python/name:os.system ",
        "? ",
        "| ",
    ),
    *(
        "<<: ",
        "'",
        '"',
        "\\",
        "#",
        "%YAML 9.9\n",
        "---\n",
        "...\n",
        "names",
        "0x",
        "1:2:3",
        ".inf",
        "=",
        "\x85",
    ),
    *("2024-02-30", "1_000", "~", "\t", "\u2028", "é", "@", "`", "!<tag:yaml.org,2002:omap> ", "9" * 400),
)


def test_random_yaml_is_read_or_refused(tmp_path: Path) -> None:
    dice = random.Random(17)
    path = tmp_path / "a.yaml"
    begun = time.monotonic()
    for _ in range(400):
        path.write_text("".join(dice.choices(PIECES, k=dice.randint(1, 60))))
        try:
            read_yaml(path)
        except UserError as error:
            assert str(error).isprintable()
    assert time.monotonic() - begun < 10
