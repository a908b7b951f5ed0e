"""Broken data through the real command line: exit status 2, one line, no traceback, within a second or two."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from malformed import MALFORMED


def as_overrides(options: dict[str, Any]) -> list[str]:
    def shown(value: Any) -> str:
        if value is None:
            return "null"
        if isinstance(value, list | tuple):
            return f"[{','.join(map(shown, value))}]"
        if isinstance(value, dict):
            return f"{{{','.join(f'{key}: {shown(item)}' for key, item in value.items())}}}"
        return f"'{value}'" if isinstance(value, str | Path) else str(value).lower()

    name = options.pop("name")
    return [f"dataset={name}", *(f"dataset.{key}={shown(value)}" for key, value in options.items())]


@pytest.mark.parametrize(
    ("make", "words"), [case[1:] for case in MALFORMED], ids=[str(case[0]) for case in MALFORMED]
)
def test_malformed(make: Callable[[Path], dict[str, Any]], words: Any, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    overrides = as_overrides(dict(make(tmp_path / "data")))
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *overrides, f"hydra.run.dir={tmp_path / 'run'}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("error: ")
    for word in [words] if isinstance(words, str) else words:
        assert str(word) in done.stderr
