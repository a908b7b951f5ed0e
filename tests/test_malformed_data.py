"""Some of the broken data of `data/test_malformed.py` through the real command line: exit status 2 and one line."""

from pathlib import Path
from typing import Any

import pytest
from malformed import MALFORMED, Malformed
from scripts import run_script


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


@pytest.mark.parametrize("case", MALFORMED[::12], ids=lambda case: case.id)
def test_malformed(case: Malformed, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    overrides = as_overrides(dict(case.make(tmp_path / "data")))
    done = run_script("train.py", *overrides, f"hydra.run.dir={tmp_path / 'run'}")
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert [word for word in case.words if word not in done.stderr] == []
