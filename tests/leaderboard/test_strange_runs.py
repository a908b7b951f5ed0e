"""Run folders of strangers: whatever they hold, the board is made of the others, or one line says why not."""

import copy
import datetime
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_runs import made, write_run

from segmentation.errors import UserError
from segmentation.leaderboard import leaderboard

ODD: tuple[Any, ...] = (
    *(
        None,
        True,
        -1,
        0,
        10**400,
        1e308,
        "",
        "x" * 5000,
        "\x1b]0;owned\x07",
        "a|b\n# c",
        "<script>",
        "9" * 5000,
        "\ud800",
    ),
    *(
        [],
        {},
        [[]],
        {"a": {"b": [None]}},
        [1, "a", None],
        {"name": ["x"]},
        {"": ""},
        "2024-99-01",
        "../../x",
        "~root/x",
    ),
)
TEXTS = (
    *(
        b"",
        b"\xff\xfe",
        b"[" * 5000,
        b"{" * 5000,
        b"a: &a [*a]",
        b"- " * 5000,
        b"x: 2024-99-01",
        b"\x00",
        b"[]",
        b"1",
    ),
    *(
        b"epoch,val/miou\n1,x\n",
        b"\x1b[2J" * 99,
        b"!!python/object/apply:os.system [true]",
        b"{}",
        b"9" * 5000,
    ),
)
FILES = ("config.yaml", "report.json", ".hydra/hydra.yaml", "metrics.csv", "error.txt", "pruned.txt")


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to all parts of plain data."""
    yield path
    if isinstance(content, dict | list):
        for key in content if isinstance(content, dict) else range(len(content)):
            yield from places(content[key], (*path, key))


def changed(content: Any, dice: random.Random) -> Any:
    """The same with another value somewhere, or without it."""
    content = copy.deepcopy(content)
    *way, last = dice.choice([path for path in places(content) if path])
    part = content
    for key in way:
        part = part[key]
    if dice.random() < 0.2:
        del part[last]
    else:
        part[last] = dice.choice(ODD)
    return content


def spoil(folder: Path, dice: random.Random) -> str:
    """Changes one file of a run; says what it holds then."""
    path = folder / dice.choice(FILES)
    if path.suffix in (".json", ".yaml") and path.exists() and dice.random() < 0.7:
        content = changed(yaml.safe_load(path.read_text()), dice)
        dump = json.dumps if path.suffix == ".json" else yaml.safe_dump
        path.write_text(dump(content))
    else:
        path.write_bytes(dice.choice(TEXTS))
    return f"{path.name}: {path.read_bytes()[:300]!r}"


def test_a_spoilt_run_spoils_no_board(tmp_path: Path) -> None:
    dice, begun = random.Random(17), time.monotonic()
    options = {"metric": "val/miou", "latency": 0, "benchmarks": None, "output": None}
    for number in range(50):
        if time.monotonic() - begun > 8:
            break
        runs = tmp_path / str(number)
        write_run(runs / "whole", miou=0.5)
        write_run(runs / "spoilt", seed=2)
        (runs / "spoilt" / ".hydra" / "hydra.yaml").write_text(
            '{"hydra": {"runtime": {"cwd": "/", "choices": {"loss": "a"}}}}'
        )
        what = spoil(runs / "spoilt", dice)
        try:
            leaderboard({**options, "runs": str(runs)})
        except UserError as error:
            assert str(error).isprintable(), what
        except Exception as error:
            pytest.fail(f"{what}: {error!r}")
        else:
            assert "whole" in (runs / "leaderboard.csv").read_text(), what
            assert "\x1b" not in (runs / "leaderboard.md").read_text(), what


def _deep(depth: int) -> Any:
    return [_deep(depth - 1)] if depth else 1


@pytest.mark.parametrize(
    ("file", "change", "finished"),
    [
        ("config.yaml", {"planned": 5}, False),
        ("config.yaml", {"planned": [[1]]}, False),
        ("config.yaml", {"day": [datetime.date(2024, 1, 1)]}, True),
        (
            "report.json",
            {"baseline": {"everywhere": "x", "model_predicts_only": "x", "metrics": {"miou": "0.5"}}},
            False,
        ),
        ("report.json", {"model": {"backbone": {}, "head": {}, "parameters": 10**400}}, False),
        ("report.json", {"data": {"name": _deep(400)}}, False),
    ],
)
def test_a_value_that_none_of_ours_has(
    file: str, change: dict[str, Any], finished: bool, tmp_path: Path
) -> None:
    write_run(tmp_path / "whole", miou=0.5)
    path = write_run(tmp_path / "odd", seed=2, backbone="resnet50") / file
    load, dump = (json.loads, json.dumps) if path.suffix == ".json" else (yaml.safe_load, yaml.safe_dump)
    path.write_text(dump({**load(path.read_text()), **change}))
    made(f"runs={tmp_path}", "latency=0")
    assert ("odd" in (tmp_path / "leaderboard.csv").read_text()) == finished
    assert ("- odd: " in (tmp_path / "leaderboard.md").read_text()) != finished


def test_pipes_and_devices_do_not_hang_a_board(tmp_path: Path) -> None:
    write_run(tmp_path / "whole", miou=0.5)
    for name in FILES:
        folder = write_run(tmp_path / name.replace("/", "_"), seed=2)
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
        folder = write_run(tmp_path / f"zero_{name.replace('/', '_')}", seed=3)
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to("/dev/zero")
    made(f"runs={tmp_path}", "latency=0")
    assert "whole" in (tmp_path / "leaderboard.csv").read_text()


@pytest.mark.parametrize("name", ["leaderboard.html", "leaderboard.md", "leaderboard.csv"])
def test_a_board_is_not_written_through_links(name: str, tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "whole")
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "runs" / name).symlink_to(tmp_path / "precious")
    (tmp_path / "runs" / f"{name}.part").symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match=f"{name} is a symbolic link"):
        made(f"runs={tmp_path / 'runs'}", "latency=0")
    (tmp_path / "runs" / name).unlink()
    made(f"runs={tmp_path / 'runs'}", "latency=0")
    assert (tmp_path / "precious").read_text() == "precious"
