"""Sweeps have a folder of their own, and so has each of their jobs."""

import re
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from segmentation.cli.sweep_plan import job_folder, plan_sweep
from segmentation.errors import UserError


@pytest.mark.parametrize(
    ("overrides", "shared", "name"),
    [
        (["seed=1", "backbone=resnet18"], [], "backbone-resnet18+seed-1"),
        (
            ["backbone=resnet18", "seed=1", "dataset.root=/data/x"],
            ["dataset.root"],
            "backbone-resnet18+seed-1",
        ),
        (["seed=1", "name=a"], ["seed", "name"], "name-a+seed-1"),
        (["+loss.gamma=2.5", "data.size=[48,64]"], [], "data.size-48_64+loss.gamma-2.5"),
        (["dataset.root='/my data/camvid'"], [], "dataset.root-my_data_camvid-6ad7fe58"),
        (["optimizer.lr=1e-05"], [], "optimizer.lr-1e-05"),
        ([], [], "job"),
    ],
)
def test_names_say_what_tells_a_job_from_the_others(
    overrides: list[str], shared: list[str], name: str
) -> None:
    assert job_folder(overrides, shared) == name


def test_long_names_are_shortened_and_stay_apart() -> None:
    first, second = (job_folder(["dataset.root=/" + "long/" * 60 + end], []) for end in ("a", "b"))
    assert first != second
    assert max(len(first), len(second)) < 140
    assert first.startswith("dataset.root-long_long")


@pytest.mark.parametrize(
    "values", [("val/loss", "val_loss"), ("_a", "a"), ("a,b", "[a,b]"), ("", "''"), ("'a b'", "'a  b'")]
)
def test_jobs_that_differ_have_folders_of_their_own(values: tuple[str, str]) -> None:
    first, second = (job_folder([f"key={value}"], []) for value in values)
    assert first != second


@given(st.lists(st.tuples(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.text(max_size=60)), max_size=6))
def test_a_name_needs_no_quotes_anywhere(pairs: list[tuple[str, str]]) -> None:
    name = job_folder([f"{key}={value}" for key, value in pairs], [])
    assert re.fullmatch(r"[\w.+-]+", name)
    assert len(name.encode()) < 600 and "/" not in name


@pytest.mark.parametrize("name", ["backbone-resnet18+seed-1", "data.size-48_64+loss.gamma-2.5"])
def test_a_folder_can_be_given_to_an_option_as_it_is(name: str) -> None:
    (override,) = OverridesParser.create().parse_overrides([f"checkpoint=outputs/sweeps/x/{name}/best.ckpt"])
    assert override.value() == f"outputs/sweeps/x/{name}/best.ckpt"


@pytest.mark.parametrize(
    ("arguments", "folder", "shared"),
    [
        (["-m", "seed=1,2"], "outputs/sweeps/shapes_resnet18", []),
        (["-m", "seed=1,2", "backbone=resnet50"], "outputs/sweeps/shapes_resnet50", ["backbone"]),
        (["backbone=resnet18,resnet50", "-m"], "outputs/sweeps/shapes", []),
        (["-m", "backbone=resnet18,resnet50", "dataset=shapes,shapes_binary"], "outputs/sweeps/sweep", []),
        (["-m", "backbone=resnet18,resnet50", "name=mine"], "outputs/sweeps/mine", ["name"]),
        (["-m", "seed=range(3)", "hydra.sweep.dir=/tmp/here"], "/tmp/here", []),
        (["-m", "experiment=voc_resnet18_aux,camvid_resnet18"], "outputs/sweeps/sweep", []),
        (["-m", "experiment=glob(*)", "name=mine"], "outputs/sweeps/mine", ["name"]),
        (["-m", "trainer=default,debug"], "outputs/sweeps/shapes_resnet18", []),
        # Of two the last holds, as in Hydra.
        (["-m", "seed=3", "loss=focal", "seed=1,2"], "outputs/sweeps/shapes_resnet18", ["loss"]),
        (["-m", "seed=1,2", "loss=focal,dice", "seed=3"], "outputs/sweeps/shapes_resnet18", ["seed"]),
        # An option that only the swept choices have.
        (["-m", "loss=focal", "loss.gamma=1,2"], "outputs/sweeps/shapes_resnet18", ["loss"]),
        (["-m", "loss=choice(focal)", "loss.gamma=3"], "outputs/sweeps/shapes_resnet18", ["loss.gamma"]),
    ],
)
def test_a_sweep_has_one_folder(arguments: list[str], folder: str, shared: list[str]) -> None:
    sweep = plan_sweep(arguments, "train")
    assert sweep is not None
    assert (sweep.folder, list(sweep.shared)) == (Path(folder), shared)


@pytest.mark.parametrize("arguments", [["seed=1"], [], ["-m", "seed=1,2", "--cfg", "job"]])
def test_what_is_no_sweep_is_left_alone(arguments: list[str]) -> None:
    assert plan_sweep(arguments, "train") is None


def test_what_is_settled_replaces_what_was_typed() -> None:
    typed = [
        "-m",
        "sweep=optuna",
        "seed=1,2",
        "hydra.sweeper.n_trials=9",
        "hydra.sweep.dir=${name}",
        "name=x",
    ]
    sweep = plan_sweep(typed, "train")
    assert sweep is not None
    assert sweep.arguments(["hydra.sweeper.n_trials=3"]) == [
        *("-m", "hydra.sweep.dir='x'", "hydra.job.config.override_dirname.exclude_keys=['sweep','name']"),
        *("hydra.sweeper.n_trials=3", "sweep=optuna", "seed=1,2", "name=x"),
    ]


def test_resume_is_for_single_runs() -> None:
    with pytest.raises(UserError, match="for one run"):
        plan_sweep(["-m", "seed=1,2", "resume=outputs/x"], "train")


def test_a_search_is_for_sweeps() -> None:
    with pytest.raises(UserError, match="add -m"):
        plan_sweep(["sweep=optuna"], "train")


def test_two_commands_do_not_share_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py"])
    sweep = plan_sweep(["-m", "seed=1,2", f"hydra.sweep.dir={tmp_path}"], "train")
    assert sweep is not None
    with sweep.alone(), pytest.raises(UserError, match="another command"), sweep.alone():
        pass
    with sweep.alone():
        pass
