"""Which images to label next: what is chosen and why, what is written, and what is refused."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import CONF, ROOT
from made_predictors import write_checkpoint
from PIL import Image

from segmentation.config import read_selection_settings
from segmentation.errors import UserError
from segmentation.inference.inputs import find_inputs
from segmentation.selection import farthest, most_unsure, select


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("made")
    sizes = {"a": (64, 64), "b": (48, 48)}
    return [str(write_checkpoint(folder / f"{name}.ckpt", size=size)) for name, size in sizes.items()]


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos of six frames; those of one are much alike."""
    folder = tmp_path_factory.mktemp("frames")
    for number, video in enumerate(("day", "night")):
        random = np.random.default_rng(number)
        scene = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        for frame in range(6):
            noise = random.integers(0, 2 + frame, scene.shape, dtype=np.uint8)
            Image.fromarray(scene // 2 + noise).resize((64, 48)).save(folder / f"{video}_{frame}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG nonsense")
    return folder


def config(members: Any, frames: Path, output: Path, **options: Any) -> dict[str, Any]:
    """What select_images.py would make of its command line."""
    defaults = yaml.safe_load((CONF / "select.yaml").read_text())
    own = {key: value for key, value in defaults.items() if key not in ("defaults", "hydra")}
    given = {"checkpoint": members, "input": str(frames), "count": 4, "output": str(output)}
    return {**own, "accelerator": "cpu", "precision": "32-true", **given, **options}


def chosen(folder: Path) -> list[dict[str, str]]:
    with (folder / "selected.csv").open(newline="", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def test_the_most_unsure_come_first_and_no_group_has_more_than_its_share() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.1, 0.2], np.float32)
    alone, groups = [""] * 5, ["a", "a", "a", "b", "b"]
    assert most_unsure(scores, alone, count=3, pool=3) == [0, 1, 2]
    assert most_unsure(scores, groups, count=2, pool=2) == [0, 4]
    # Where a group has too few, the others go on.
    assert most_unsure(scores, ["a", "a", "a", "a", "b"], count=4, pool=4) == [0, 1, 4, 2]


def test_the_farthest_cover_the_candidates() -> None:
    features = np.array([[0.0], [0.1], [1.0], [0.9], [0.5]], np.float32)
    scores = np.array([0.3, 0.2, 0.1, 0.1, 0.1], np.float32)
    alone, none = [""] * 5, np.empty((0, 1), np.float32)
    order, distances = farthest(features, scores, [0, 1, 2, 3, 4], none, alone, count=3)
    assert order == [0, 2, 4]  # the least certain, then what is farthest
    assert distances == pytest.approx([np.inf, 1.0, 0.5])
    labelled = np.array([[0.0], [1.0]], np.float32)
    assert farthest(features, scores, [0, 1, 2, 3, 4], labelled, alone, count=1)[0] == [4]
    groups = ["a", "b", "a", "a", "a"]
    assert farthest(features, scores, [0, 1, 2, 3, 4], none, groups, count=2)[0] == [0, 1]


@pytest.mark.parametrize(
    "options",
    [
        {"by": "entropy", "candidates": 1},
        {"by": "disagreement", "group": "^(.+)_"},
        {"by": "disagreement", "candidates": "all"},
    ],
    ids=str,
)
def test_a_selection(options: dict[str, Any], members: list[str], frames: Path, tmp_path: Path) -> None:
    if "group" in options:
        (tmp_path / "in").mkdir()
        for path in frames.glob("*_*.png"):
            (tmp_path / "in" / path.name).symlink_to(path)
        frames = tmp_path / "in"
    for name in ("once", "again"):
        assert select(read_selection_settings(config(members, frames, tmp_path / name, **options))) == 4
    rows = chosen(tmp_path / "once")
    assert rows == chosen(tmp_path / "again")
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4"]
    assert all(0 < float(row["score"]) < 1 for row in rows)
    listed = [Path(line) for line in (tmp_path / "once" / "selected.txt").read_text().splitlines()]
    assert listed == [Path(row["path"]) for row in rows] and len(set(listed)) == 4
    videos = [path.name.partition("_")[0] for path in listed]
    if "group" in options:
        assert [row["group"] for row in rows] == videos and videos.count("day") == 2
    elif options["candidates"] == 1:
        scores = [float(row["score"]) for row in rows]
        assert scores == sorted(scores, reverse=True)
    else:
        assert {*videos} == {"day", "night"}
        assert rows[0]["distance"] == "" and float(rows[1]["distance"]) > float(rows[2]["distance"]) > 0
    with Image.open(tmp_path / "once" / "contact_sheet.png") as sheet:
        assert min(sheet.size) > 200
    found, _ = find_inputs(str(tmp_path / "once" / "selected.txt"), tmp_path)
    assert [file.path for file in found] == sorted(listed)


def test_what_is_labelled_is_not_chosen_again(members: list[str], frames: Path, tmp_path: Path) -> None:
    strange = tmp_path / os.fsdecode(b"night_\xff.png")  # a name that is not UTF-8
    shutil.copy(frames / "night_0.png", strange)
    paths = [*frames.glob("*_*.png"), strange]
    frames = tmp_path / "unlabelled.txt"
    frames.write_text("".join(f"{path}\n" for path in paths), errors="surrogateescape")
    labelled = tmp_path / "labelled.txt"
    labelled.write_text(
        "".join(f"{path}\n" for path in paths if path.name.startswith("day") and "5" not in path.name)
    )
    options = {"count": 20, "labelled": str(labelled), "tta": "flip", "by": "disagreement", "save": ["mask"]}
    output = tmp_path / "out"
    assert select(read_selection_settings(config(members[0], frames, output, **options))) == 8
    rows = chosen(output)
    assert sum(Path(row["path"]) == strange for row in rows) == 1
    assert Path(rows[0]["path"]).name.startswith("night")
    assert {path.stem for path in (output / "labels").rglob("*.png")} == {
        Path(row["path"]).stem for row in rows
    }
    with pytest.raises(UserError, match="has a selection already"):
        select(read_selection_settings(config(members[0], frames, output)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"by": "entropi"}, "by=entropi"),
        ({"count": 0}, "count=0"),
        ({"candidates": 0}, "candidates=0"),
        ({"save": ["maks"]}, "Did you mean 'mask'"),
        ({"save": ["polygons"]}, "save=polygons is unknown"),
        ({"save": "disagreement"}, "save=disagreement is unknown"),
        ({"input": "nowhere"}, "nowhere"),
        ({"by": "disagreement"}, "cannot disagree"),
        ({"labelled": "input"}, "Every image of the input is in labelled"),
        ({"group": "^(x)"}, "group=.* is not in"),
    ],
)
def test_wrong_options(
    options: dict[str, Any], words: str, members: list[str], frames: Path, tmp_path: Path
) -> None:
    if "labelled" in options:
        options = {"labelled": str(frames)}
    with pytest.raises(UserError, match=words):
        select(read_selection_settings(config(members[0], frames, tmp_path / "out", **options)))
    assert not (tmp_path / "out").exists()


def test_no_script_hides_a_module_of_python() -> None:
    """A script's folder comes first in the search for modules: a select.py would break `subprocess` for all others."""
    assert not {path.stem for path in ROOT.glob("*.py")} & {*sys.stdlib_module_names}
    done = subprocess.run(
        [sys.executable, str(ROOT / "select_images.py"), "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0 and "candidates=4" in done.stdout
