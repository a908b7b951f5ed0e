"""`dataset.root=PATH` on a command line becomes the options of the layout that lies there."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import CONF, write_pair
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from made_data import THINGS, fill, make_cityscapes, masks_in
from PIL import Image
from scripts import run_script

from segmentation.cli import compose
from segmentation.cli.auto import as_override, with_job_recognised, with_recognised
from segmentation.cli.overrides import as_plain_data, given_keys
from segmentation.data import create_dataset
from segmentation.errors import UserError


def recognised(*arguments: str, command: str = "train") -> list[str]:
    return with_recognised(arguments, command)[0]


@pytest.mark.parametrize(
    "typed",
    [
        ["seed=1"],
        ["dataset.seed=3"],
        ["dataset=shapes", "dataset.root={root}"],
        ["experiment=binary_resnet50", "dataset.root={root}"],
        ["resume={root}", "dataset.root={root}"],
        ["dataset=binary", "dataset.root={root}"],
    ],
)
def test_what_has_its_data_is_left_as_it_is(typed: list[str], tmp_path: Path) -> None:
    fill(tmp_path)
    arguments = [each.format(root=tmp_path) for each in typed]
    assert with_recognised(arguments, "train") == (arguments, [])


def test_a_checkpoint_has_its_data_too(tmp_path: Path) -> None:
    fill(tmp_path)
    arguments = ["checkpoint=x.ckpt", f"dataset.root={tmp_path}"]
    assert with_recognised(arguments, "evaluate") == (arguments, [])
    assert "dataset=binary" in recognised("dataset=auto", *arguments, command="evaluate")


@pytest.mark.parametrize("choice", [[], ["dataset=auto"]])
@pytest.mark.parametrize("flag", [[], ["-m"]])
def test_a_root_becomes_its_layout(choice: list[str], flag: list[str], tmp_path: Path) -> None:
    masks_in("img/{n}.jpg", "gt/{n}.png", "palette")(tmp_path)
    more = ["seed=1,2"] if flag else ["seed=1"]
    arguments, notes = with_recognised([*flag, *choice, f"dataset.root={tmp_path}", *more], "train")
    assert [argument for argument in arguments if argument.startswith("dataset=")] == ["dataset=pairs"]
    assert len(notes) == 1 and notes[0].startswith(f"{tmp_path} looks like images and masks: dataset=pairs")
    assert arguments[-1] == more[0]
    if not flag:
        options = compose("train", *arguments)["dataset"]
        assert options["name"] == "pairs" and options["masks"] == "gt/{stem}.*"
        assert create_dataset(**options).classes.names == ("class 0", "class 1", "class 2")


def test_roots_that_a_sweep_varies_are_for_its_jobs(tmp_path: Path) -> None:
    arguments = ["-m", "dataset.root=a,b"]
    assert recognised(*arguments) == ["-m", "dataset=auto", "dataset.root=a,b"]


def test_a_job_gets_the_config_of_a_single_run_with_its_root(tmp_path: Path) -> None:
    make_cityscapes(tmp_path)
    single = compose("train", *recognised(f"dataset.root={tmp_path}"))
    with initialize_config_dir(str(CONF), version_base="1.3"):
        typed = ["dataset=auto", f"dataset.root={tmp_path}", "seed=0"]
        composed = hydra_compose("train", typed, return_hydra_config=True)
        HydraConfig.instance().set_config(composed)
        job, notes = with_job_recognised(composed, [], "train")
        given = given_keys(HydraConfig.get())
    assert as_plain_data(job) == {**single, "seed": 0}
    assert given == sorted(
        {"dataset", "dataset.root", "seed", "dataset.name", "dataset.masks", "plan", "data.size"}
    )
    assert len(notes) == 1
    assert HydraConfig.get().overrides.task[0] == "dataset=cityscapes"
    assert with_job_recognised(job, [], "train") == (job, [])


def test_typed_options_are_kept(tmp_path: Path) -> None:
    masks_in("img/{n}.jpg", "gt/{n}.png")(tmp_path)
    names = f"dataset.names={as_override(THINGS)}"
    arguments = recognised(f"dataset.root={tmp_path}", names, "dataset.folds=3", "dataset.fold=1")
    options = compose("train", *arguments)["dataset"]
    assert (options["names"], options["folds"], options["fold"]) == (THINGS, 3, 1)


@pytest.mark.parametrize("folders", [("images", "masks"), ("rgb", "truth")], ids=["binary", "pairs"])
@pytest.mark.parametrize(
    ("option", "labels"),
    [("ignore=128", {0, 1, 255}), ("ignore=[128]", {0, 1, 255}), ("threshold=127", {0, 1})],
)
def test_a_third_value_is_settled_as_the_message_advises(
    folders: tuple[str, str], option: str, labels: set[int], tmp_path: Path
) -> None:
    images, masks = (tmp_path / folder for folder in folders)
    for number in range(10):
        write_pair(images, masks, f"{number}", labels=3, scale=127)
        mask = np.asarray(Image.open(masks / f"{number}.png"))
        Image.fromarray(np.array([0, 128, 255], np.uint8)[mask // 127]).save(masks / f"{number}.png")
    root = f"dataset.root={tmp_path}"
    with pytest.raises(UserError, match=r"dataset\.ignore=128.*dataset\.threshold=VALUE"):
        create_dataset(**compose("train", *recognised(root))["dataset"])
    dataset = create_dataset(**compose("train", *recognised(root, f"dataset.{option}"))["dataset"])
    assert dataset.classes.binary
    assert set(np.unique(dataset.train[0]["mask"]).tolist()) == labels


def test_options_that_the_layout_has_not_are_left_out(tmp_path: Path) -> None:
    make_cityscapes(tmp_path)
    assert compose("train", *recognised(f"dataset.root={tmp_path}"))["dataset"] == {
        "name": "cityscapes",
        "root": str(tmp_path),
        "masks": "auto",
    }


@pytest.mark.parametrize(
    "value",
    [
        *(
            None,
            True,
            3,
            0.5,
            "a b",
            "it's",
            "{stem}.*",
            "a,b=c",
            [],
            ["class 0", "x,y"],
            {1: "road", 2: "ignore"},
        ),
        *({"class 0": [1, 2, 3], "a:b (c)": [0, 0, 0]}, {"a,b": [1, 2, 3]}, [[1, 2, 3], 7]),
    ],
)
def test_any_value_survives_hydras_grammar(value: Any) -> None:
    assert compose("train", f"+x={as_override(value)}")["x"] == value


def test_an_option_that_the_layout_has_not_is_no_silent_loss(tmp_path: Path) -> None:
    make_cityscapes(tmp_path)
    arguments = recognised(f"dataset.root={tmp_path}", "dataset.ignore=[3]")
    with pytest.raises(HydraException, match=r"dataset\.ignore"):
        compose("train", *arguments)
    with pytest.raises(UserError, match=r"There is no option 'dataset\.ignore'"):
        create_dataset(name="auto", root=str(tmp_path), ignore=[3])


def test_the_script_has_the_plain_options_and_a_wrong_folder_ends_in_one_line(tmp_path: Path) -> None:
    root = tmp_path / "a b, c"
    masks_in("img/{n}.jpg", "gt/{n}.png")(root)
    done = run_script("train.py", f"dataset.root={root}", "dataset.group=^([0-4])|.", "--cfg", "job")
    assert done.returncode == 0, done.stderr
    options = yaml.safe_load(done.stdout)["dataset"]
    assert (options["name"], options["root"], options["masks"]) == ("pairs", str(root), "gt/{stem}.*")
    assert options["group"] == "^([0-4])|."
    (root / "gt").rename(root / "notes")
    done = run_script("train.py", f"dataset.root={root}")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no known layout" in done.stderr and done.stderr.count("\n") == 1
