"""A search refuses what its study could not hold, and its best trial can be run again as it is told."""

import copy
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import composed
from scripts import Done, run_script

from segmentation.cli import compose
from segmentation.cli.messages import explain
from segmentation.cli.search import Search, more_overrides
from segmentation.cli.sweep_plan import plan_sweep
from segmentation.errors import UserError

pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
# The release of Optuna that the sweeper needs is older than what it stands on.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

JOB = """
import json, yaml
from segmentation.cli import script


@script("train")
def main(config, folder):
    "A job that is better the lower its rate."
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    value = 1 - config["optimizer"]["lr"]
    (folder / "report.json").write_text(json.dumps({"metrics": {"val/miou": value}}))
    return value


if __name__ == "__main__":
    main()
"""


def run(folder: Path, *arguments: str) -> Done:
    (folder / "job.py").write_text(JOB)
    return run_script(str(folder / "job.py"), *arguments, folder=folder)


def prepared(folder: Path, *arguments: str) -> Search:
    """A search as it stands before its first job."""
    folder.mkdir(exist_ok=True)
    sweep = plan_sweep(["-m", "sweep=optuna", f"hydra.sweep.dir={folder}", *arguments], "train")
    assert sweep is not None
    search = Search.of(sweep)
    assert search is not None
    return search


def study(folder: Path):  # type: ignore[no-untyped-def]  # Optuna is imported where it is there
    import optuna

    return optuna.load_study(study_name="search", storage=f"sqlite:///{folder}/study.db")


def begin_trial(folder: Path, shared: dict[str, str], **choices: list[Any]):  # type: ignore[no-untyped-def]
    """A trial as the sweeper asks for it, at the place where it is composed."""
    trial = study(folder).ask()
    for key, values in choices.items():
        trial.suggest_categorical(key, values)
    for key, value in shared.items():
        trial.set_user_attr(key, value)
    return trial


def test_a_mistake_in_the_space_does_not_outlive_its_command(tmp_path: Path) -> None:
    search = ["-m", "name=s", "sweep=optuna", "hydra.sweeper.n_trials=1"]
    # What no trial was composed of yet cannot be seen before, and stands in the study then.
    done = run(tmp_path, *search, "loss=choice(focal)", "loss.gama=choice(1,2)")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "Did you mean 'gamma'" in done.stderr
    done = run(tmp_path, *search, "loss=choice(lovasz,ce_dice)")
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 jobs: 1 ran" in done.stdout
    assert "best of 1 trials" in done.stdout


def test_a_mistake_begins_no_study(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"loss=focl is unknown\. Did you mean 'focal'\?"):
        prepared(tmp_path / "s", "loss=choice(focl,lovasz)")
    with pytest.raises(UserError, match=r"n_trials=0 asks for no trial: give 1 or more"):
        prepared(tmp_path / "s", "hydra.sweeper.n_trials=0")
    assert not (tmp_path / "s" / "study.db").exists()


SHARED = {"sweep": "optuna"}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            ["loss=choice(focal,dice)"],
            "loss=Categorical(choices=('focal', 'lovasz')), now Categorical(choices=('focal', 'dice'))",
        ),
        (["loss=focal"], "now focal"),
        (["loss=choice(focal,lovasz)", "seed=1,2"], "seed=not given, now Categorical(choices=(1, 2))"),
        (["loss=choice(focal,lovasz)", "seed=3"], "seed=not given, now 3"),
    ],
)
def test_another_space_is_another_search(changed: list[str], words: str, tmp_path: Path) -> None:
    same = ["hydra.sweeper.params=null", "loss=choice(focal,lovasz)"]
    prepared(tmp_path, *same)
    trial = begin_trial(tmp_path, SHARED, loss=["focal", "lovasz"])
    study(tmp_path).tell(trial, 0.5)
    with pytest.raises(UserError, match="Give another name=NAME") as refused:
        prepared(tmp_path, "hydra.sweeper.params=null", *changed)
    assert words in str(refused.value)
    assert prepared(tmp_path, *same).has_values


def test_what_never_composed_is_not_tried_again(tmp_path: Path) -> None:
    same = ["hydra.sweeper.params=null", "loss=choice(focal,lovasz)"]
    prepared(tmp_path, *same)
    for _ in range(2):
        begin_trial(tmp_path, SHARED, loss=["focal", "lovasz"])
    prepared(tmp_path, *same)
    assert [trial.state.name for trial in study(tmp_path).trials] == ["FAIL", "FAIL"]
    trial = begin_trial(tmp_path, SHARED, loss=["focal", "lovasz"])
    (tmp_path / f"loss-{trial.params['loss']}").mkdir()
    prepared(tmp_path, *same)
    assert [trial.state.name for trial in study(tmp_path).trials] == ["FAIL"] * 3 + ["WAITING"]


def test_a_choice_that_makes_no_config_ends_the_search_and_loses_nothing(tmp_path: Path) -> None:
    space = {"loss": ["focal", "lovasz"], "loss.gamma": [1, 2]}
    same = [
        "hydra.sweeper.params=null",
        *(f"{key}={','.join(map(str, values))}" for key, values in space.items()),
    ]
    prepared(tmp_path, *same)
    while (trial := begin_trial(tmp_path, SHARED, **space)).params["loss"] != "focal":
        pass  # the others never composed
    study(tmp_path).tell(trial, 2.0)
    done = run(tmp_path, "-m", "sweep=optuna", "hydra.sweep.dir=.", "hydra.sweeper.n_trials=20", *same)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "There is no option 'loss.gamma'" in done.stderr
    assert "The search ended there, at loss=lovasz loss.gamma=" in done.stderr
    assert ": 2.0000, in " in done.stdout


def test_what_is_settled_is_not_searched(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="loss=ce_dice settles for all trials what loss=focal,lovasz looks for"
    ):
        prepared(tmp_path, "loss=ce_dice", "loss=focal,lovasz")
    prepared(tmp_path, "loss=ce_dice")


def test_null_among_the_choices(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="NoneType") as refused:
        prepared(tmp_path, "callbacks.ema_decay=choice(null,0.9)")
    told = explain(refused.value)
    assert told is not None
    assert told.endswith("choice() takes no null, a bare list does: callbacks.ema_decay=null,0.9.")
    prepared(tmp_path, "callbacks.ema_decay=null,0.9")


def test_a_launcher_that_gets_one_trial_at_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    prepared(tmp_path, "hydra/launcher=joblib")
    assert "hydra.sweeper.n_jobs=2" in capsys.readouterr().err
    prepared(tmp_path, "hydra/launcher=joblib", "hydra.sweeper.n_jobs=2")
    prepared(tmp_path)
    assert capsys.readouterr().err == ""


def test_the_best_trial_is_run_again_as_it_was(tmp_path: Path) -> None:
    own = tmp_path / "mine" / "sweep"
    own.mkdir(parents=True)
    (own / "own.yaml").write_text(
        "# @package _global_\n"
        "defaults:\n  - optuna\n  - override /scheduler: plateau\n"
        "trainer:\n  max_epochs: 7\n"
        "hydra:\n  sweeper:\n    params:\n      data.batch_size: 6\n"
    )
    flags = ["--config-dir", "mine"]
    done = run(tmp_path, *flags, "-m", "name=s", "sweep=own", "hydra.sweeper.n_trials=1", "weights=null")
    assert (done.returncode, done.stderr) == (0, "")
    first, command, _ = done.stdout.splitlines()[-3:]
    folder = tmp_path / first.partition(", in ")[2].partition(";")[0]
    told = shlex.split(command)
    assert told[:3] == ["python", "job.py", "--config-dir=mine"]
    again = run(tmp_path, *told[2:], "hydra.run.dir=again")
    assert (again.returncode, again.stderr) == (0, "")
    before, after = (
        yaml.safe_load((place / "config.yaml").read_text()) for place in (folder, tmp_path / "again")
    )
    # Alone it is compared with no other run.
    assert before["callbacks"].pop("pruning") != after["callbacks"].pop("pruning")
    assert "trainer.max_epochs" in before.pop("given")
    assert "trainer.max_epochs" in after.pop("given")
    assert before == after
    assert (before["trainer"]["max_epochs"], before["data"]["batch_size"]) == (7, 6)


@pytest.mark.parametrize(
    "value",
    [None, True, 3, -1.5e-07, "a b", "null", "it's", "", "x/y.z", [48, [0.5, "a,b"]], [{"a": 1}]],
)
def test_any_value_can_be_typed(value: object, tmp_path: Path) -> None:
    now = composed()
    run = {**now, "weights": value, "more": copy.deepcopy(value)}  # YAML writes one object twice as an alias
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(run))
    again = compose("train", *more_overrides(tmp_path, now))
    assert json.dumps(again, sort_keys=True) == json.dumps(run, sort_keys=True)
