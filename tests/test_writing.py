"""Files are whole or not there, and links are never written through."""

import os
from pathlib import Path

import pytest

from segmentation.errors import UserError
from segmentation.writing import (
    no_link,
    refuse_links,
    remove_unfinished,
    replaced,
    replacing,
    write_json,
    write_text,
)


def test_a_link_in_the_place_of_a_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    for name in ("config.yaml", "config.yaml.part", ".config.yaml.part"):
        (tmp_path / name).symlink_to(tmp_path / "precious")
    write_text(tmp_path / "config.yaml", "new")
    assert (tmp_path / "precious").read_text() == "precious"
    assert (tmp_path / "config.yaml").read_text() == "new"
    assert not (tmp_path / "config.yaml").is_symlink()


def test_what_fails_leaves_the_earlier_file_and_nothing_else(tmp_path: Path) -> None:
    write_json(tmp_path / "report.json", {"a": 1})
    before = (tmp_path / "report.json").read_text()
    with pytest.raises(RuntimeError), replacing(tmp_path / "report.json") as file:
        file.write("half")
        raise RuntimeError
    with pytest.raises(KeyboardInterrupt), replaced(tmp_path / "report.json"):
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    assert (tmp_path / "report.json").read_text() == before


def test_text_is_utf8_in_any_locale(tmp_path: Path) -> None:
    with replacing(tmp_path / "metrics.csv", newline="") as file:
        assert file.encoding == "utf-8"  # the locale's own is written in capitals


def test_a_new_file_has_the_rights_that_the_user_gives_to_all(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a.txt", "")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640


def test_a_place_that_cannot_be_written_is_called_by_its_own_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised, replacing(tmp_path / "none" / "report.json"):
        pass
    assert raised.value.filename == str(tmp_path / "none" / "report.json")


def test_what_a_killed_process_was_writing_can_be_removed(tmp_path: Path) -> None:
    (tmp_path / "mine.part").touch()
    left = replaced(tmp_path / "a")
    left.__enter__()
    assert len(list(tmp_path.iterdir())) == 2
    remove_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.part"]
    with pytest.raises(FileNotFoundError):
        left.__exit__(None, None, None)


def test_links_and_pipes_are_not_opened_for_appending(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(OSError), open(tmp_path / name, "a", opener=no_link):
            pass
    with open(tmp_path / "file", "a", opener=no_link) as file:
        file.write("more")
    assert (tmp_path / "file").read_text() == "more"


def test_links_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    refuse_links([tmp_path / "missing", tmp_path])
    with pytest.raises(UserError, match="dangling is a symbolic link"):
        refuse_links([tmp_path, tmp_path / "dangling"])
