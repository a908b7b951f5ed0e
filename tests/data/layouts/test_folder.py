"""Several classes in folders, described by their owner."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_data import fill, folders, mask, save

from segmentation.cli import compose
from segmentation.data import create_dataset
from segmentation.data.checks import check_samples
from segmentation.data.splits import write_split
from segmentation.errors import UserError
from segmentation.types import Classes

COLOURS = {"sky": [10, 20, 30], "road": [40, 50, 60]}


def in_file(root: Path, content: str, values: tuple[int, ...] = (0, 1)) -> dict[str, Any]:
    options = folders(root, values)
    (root / "classes.yaml").write_text(content)
    return options | {"names": None}


@pytest.mark.parametrize(
    "content",
    [
        "names: [sky, road]\nignore: [5]\n",
        "names: [sky, road]\ncolours: [[1, 2, 3], [3, 2, 1]]\nignore: [5]\n",
    ],
)
def test_classes_from_a_file(content: str, tmp_path: Path) -> None:
    dataset = create_dataset(**in_file(tmp_path, content, (0, 1, 5)))
    check_samples(dataset)
    assert dataset.classes.names == ("sky", "road")
    assert dataset.classes.palette == (
        ((1, 2, 3), (3, 2, 1)) if "colours" in content else Classes(("a", "b")).palette
    )
    assert np.array_equal(dataset.train[0]["mask"], mask(0, 1, 255))
    assert dataset.names() == {"train": ["p0", "p1"], "val": ["p10", "p11"], "test": ["p20", "p21"]}


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("labels: {3: road, 1: sky}", ("sky", "road")),
        ("names: {1: sky, 3: road}", ("sky", "road")),
        ("names: {'1': sky, '3': road}", ("sky", "road")),
        ("names: [road, sky]\nlabels: {1: sky, 3: road}", ("road", "sky")),
        ("names: {sky: [0, 0, 9], road: [9, 0, 0]}\nlabels: {1: sky, 3: road}\nignore: [0]", ("sky", "road")),
        ("labels: {1: sky, 3: road}\ncolors: [[0, 0, 9], [9, 0, 0]]", ("sky", "road")),
    ],
)
def test_labels_say_what_the_values_mean(content: str, names: tuple[str, ...], tmp_path: Path) -> None:
    dataset = create_dataset(**in_file(tmp_path, f"{content}\n", (1, 3, 255)))
    assert check_samples(dataset) == ()
    assert dataset.classes.names == names
    assert np.array_equal(dataset.train[0]["mask"], mask(names.index("sky"), names.index("road"), 255))


def test_labels_as_an_option(tmp_path: Path) -> None:
    folders(tmp_path, (1, 2))
    config = compose(
        "train", "dataset=folder", f"dataset.root={tmp_path}", "dataset.labels={1: sky, 2: road}"
    )
    dataset = create_dataset(**config["dataset"])
    assert dataset.classes.names == ("sky", "road")
    assert np.array_equal(dataset.train[0]["mask"], mask(0, 1))


def test_one_folder_is_divided(tmp_path: Path) -> None:
    fill(tmp_path, 10, (0, 1))
    options: dict[str, Any] = {"name": "folder", "root": str(tmp_path), "names": ["sky", "road"]}
    dataset = create_dataset(**options, fractions=[0.6, 0.2, 0.2], seed=1)
    assert [len(samples) for samples in dataset.splits().values()] == [6, 2, 2]
    write_split(tmp_path / "split.csv", dataset)
    assert create_dataset(**options, split=tmp_path / "split.csv").names() == dataset.names()


def test_classes_from_a_file_elsewhere(tmp_path: Path) -> None:
    options = in_file(tmp_path / "data", "names: [wrong, one]\n")
    (tmp_path / "c.yaml").write_text("names: [left, right]\n")
    assert create_dataset(**options, classes=tmp_path / "c.yaml").classes.names == ("left", "right")


@pytest.mark.parametrize("coloured", [False, True])
def test_camvid_holds_labels_or_its_colours(coloured: bool, tmp_path: Path) -> None:
    folders(tmp_path, tuple(range(12)))
    options = compose("train", "dataset=camvid", f"dataset.root='{tmp_path}'")["dataset"]
    if coloured:
        table = np.array([*options["names"].values(), options["ignore"][1]], np.uint8)
        for path in tmp_path.glob("*/masks/*"):
            save(path, table[mask(*range(12))])
    dataset = create_dataset(**options)
    check_samples(dataset)
    assert np.array_equal(dataset.val[1]["mask"], mask(*range(11), 255))


def test_ignored_labels_of_file_and_options_add_up(tmp_path: Path) -> None:
    options = in_file(tmp_path, "names: [sky, road]\nignore: [5]\n", (0, 1, 5, 6))
    assert np.array_equal(create_dataset(**options, ignore=[6]).train[0]["mask"], mask(0, 1, 255, 255))


@pytest.mark.parametrize("ignore", [[], [[255, 0, 255]]])
def test_coloured_masks(ignore: list[Any], tmp_path: Path) -> None:
    options = folders(tmp_path, names=COLOURS)
    table = np.zeros((256, 3), np.uint8)
    table[:2], table[255] = list(COLOURS.values()), (255, 0, 255)
    labels = mask(0, 1, 255) if ignore else mask(0, 1)
    for path in tmp_path.glob("*/masks/*"):
        save(path, table[labels])
    dataset = create_dataset(**options, ignore=ignore)
    check_samples(dataset)
    assert np.array_equal(dataset.test[0]["mask"], labels)


def test_without_a_test_folder(tmp_path: Path) -> None:
    options = folders(tmp_path)
    (tmp_path / "test").rename(tmp_path / "later")
    dataset = create_dataset(**options)
    check_samples(dataset)
    assert dataset.names()["test"] == dataset.names()["val"]
    assert dataset.notes == ("There is no test folder: val is used as test.",)


def test_a_tag_in_the_file_runs_nothing(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    options = in_file(tmp_path, f"names: !!python/object/apply:pathlib.Path.touch [{canary}]\n")
    with pytest.raises(UserError, match=r"classes\.yaml, line 1"):
        create_dataset(**options)
    assert not canary.exists()


def test_camvid_is_read_as_folders_under_its_own_name(tmp_path: Path) -> None:
    config = compose("train", "dataset=camvid", f"dataset.root={folders(tmp_path)['root']}")
    assert (config["dataset"]["name"], config["name"]) == ("camvid", "camvid_resnet18")
    dataset = create_dataset(**config["dataset"])
    earlier = create_dataset(
        **{**config["dataset"], "name": "folder"}
    )  # as in checkpoints of earlier versions
    assert dataset.classes == earlier.classes
    assert len(dataset.classes) == 11
    assert np.array_equal(dataset.train[0]["mask"], earlier.train[0]["mask"])
