"""resume=RUN, resume=auto, and a sweep's job whose folder holds an earlier run."""

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import composed
from filelock import FileLock
from scripts import run_script

from segmentation.cli.resume import differences, latest_unfinished, resume_job, with_resumed
from segmentation.errors import UserError


def leave(
    folder: Path, config: dict[str, Any], *, last: bool = True, report: str | None = None, age: int = 0
) -> Path:
    """A run folder as far as these questions go."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "best.ckpt").write_text("weights")
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    if last:
        path = folder / "checkpoints" / "last.ckpt"
        path.write_text("weights")
        os.utime(path, (1e9 - age, 1e9 - age))
    if report is not None:
        (folder / "report.json").write_text(report)
    return folder


def reported(value: float | None) -> str:
    return json.dumps({"metrics": {"val/miou": value}})


def test_an_empty_folder_begins(tmp_path: Path) -> None:
    config = composed()
    assert resume_job(config, tmp_path) == (config, None)


@pytest.mark.parametrize("value", [0.5, None])
def test_a_finished_run_has_its_value(value: float | None, tmp_path: Path) -> None:
    config = composed("seed=3")
    folder = leave(tmp_path / "run", config | {"resume": "earlier"}, report=reported(value))
    found = resume_job(config, folder)[1]
    assert found is not None
    assert found == value or (value is None and math.isnan(found))


@pytest.mark.parametrize("report", [None, "", '{"metrics": {', "[]"])
def test_a_cut_off_run_goes_on(report: str | None, tmp_path: Path) -> None:
    config = composed()
    folder = leave(tmp_path / "run", config, report=report)
    assert resume_job(config, folder) == ({**config, "resume": str(folder)}, None)


def test_a_run_without_a_whole_epoch_begins_anew(tmp_path: Path) -> None:
    config = composed()
    folder = leave(tmp_path / "run", config, last=False)
    assert resume_job(config, folder) == (config, None)
    assert not (folder / "checkpoints").exists()


def test_a_run_of_other_options_is_left_as_it_is(tmp_path: Path) -> None:
    folder = leave(tmp_path / "run", composed("trainer.max_epochs=5", "+loss.more=1"), report=reported(0.5))
    with pytest.raises(UserError) as caught:
        resume_job(composed("trainer.max_epochs=7"), folder)
    for words in (str(folder), "trainer.max_epochs 5, now 7", "loss.more 1, now None", "name="):
        assert words in str(caught.value)
    assert (folder / "checkpoints" / "best.ckpt").exists()


def begun(folder: Path, config: dict[str, Any]) -> None:
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "config.yaml").write_text(yaml.safe_dump({**config, "name": "${dataset.name}"}))


def test_a_finished_run_that_was_prolonged_by_hand_is_finished(tmp_path: Path) -> None:
    config = composed("name=shapes", "trainer.max_epochs=5")
    longer = composed("name=shapes", "trainer.max_epochs=9", "resume=somewhere")
    folder = leave(tmp_path / "run", longer, report=reported(0.5))
    begun(folder, config)
    assert resume_job(config, folder) == (config, 0.5)
    with pytest.raises(UserError, match="max_epochs 5, now 9"):
        resume_job(longer, folder)
    (folder / "report.json").unlink()
    with pytest.raises(UserError, match=r"resumed with other options .*max_epochs 9, now 5"):
        resume_job(config, folder)


def test_a_run_whose_config_was_torn_goes_on(tmp_path: Path) -> None:
    config = composed("name=shapes")
    folder = leave(tmp_path / "run", config)
    begun(folder, config)
    text = (folder / "config.yaml").read_text()
    for torn in ("", text[:100], text[:-40] + "\n: ["):
        (folder / "config.yaml").write_text(torn)
        assert resume_job(config, folder) == ({**config, "resume": str(folder)}, None)


def test_being_resumed_is_no_difference() -> None:
    assert differences({"a": {"b": 1}, "resume": "x"}, {"a": {"b": 1}, "resume": None}) == []
    assert differences({"a": {"b": None}}, {"a": {}}) == ["a.b None, now None"]


def test_auto_takes_the_latest_of_these_options(tmp_path: Path) -> None:
    typed = ["name=auto", "trainer.max_epochs=4", f"hydra.run.dir='{tmp_path}/${{seed}}_${{now:%S}}'"]
    assert latest_unfinished(typed) is None
    config = composed("name=auto", "trainer.max_epochs=4")
    leave(tmp_path / "finished", config, report=reported(0.5))
    leave(tmp_path / "young", config, last=False)
    leave(tmp_path / "other", composed("name=auto", "seed=1"))
    older = leave(tmp_path / "older", config, age=100)
    # An explicit folder is the only one that is asked.
    assert latest_unfinished([*typed[:2], f"hydra.run.dir={older}"]) == older
    assert latest_unfinished([*typed[:2], f"hydra.run.dir={tmp_path / 'finished'}"]) is None


def test_auto_looks_where_a_new_run_would_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place = Path("outputs/auto")
    config = composed("name=auto")
    leave(place / "a", config, age=100)
    latest = leave(place / "b", config, age=50)
    leave(place / "c", composed("name=auto", "seed=1"))
    leave(place / "d", config, report=reported(0.5))
    assert latest_unfinished(["name=auto"]) == latest
    # More epochs, or other devices, are for this time only.
    assert latest_unfinished(["name=auto", "trainer.max_epochs=99"]) == latest
    with FileLock(latest / ".lock"):
        assert latest_unfinished(["name=auto"]) == place / "a"


def test_resume_repeats_the_overrides_in_the_same_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a, b=c"
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text("- backbone=resnet34\n- resume=elsewhere\n")
    with pytest.raises(UserError, match="no epoch was finished"):
        with_resumed([f"resume={folder}"])
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "last.ckpt").touch()
    arguments, _ = with_resumed([f"resume={folder}", "trainer.max_epochs=9"])
    assert arguments == [
        "backbone=resnet34",
        "trainer.max_epochs=9",
        f"resume='{folder}'",
        f"hydra.run.dir='{folder}'",
        "hydra.output_subdir=null",
    ]
    assert with_resumed([f"+resume={folder}"]) == with_resumed([f"resume={folder}"])


def test_a_resumed_run_has_its_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"goes on in that folder: leave hydra\.run\.dir out"):
        with_resumed([f"resume={strange(tmp_path, 'seed=1')}", "hydra.run.dir=elsewhere"])


def test_what_another_choice_does_not_have_is_left_out(tmp_path: Path) -> None:
    folder = strange(tmp_path, "scheduler=multistep", "scheduler.milestones=[1]", "+scheduler.min_lr=0")
    assert with_resumed([f"resume={folder}"])[1] == []
    arguments, notes = with_resumed([f"resume={folder}", "scheduler=poly"])
    assert arguments[:3] == ["scheduler=multistep", "+scheduler.min_lr=0", "scheduler=poly"]
    assert notes == ["note: scheduler=poly does not have scheduler.milestones of the run: left out"]


def test_flags_may_stand_anywhere_beside_resume(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_text("- backbone=resnet34\n")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    arguments, _ = with_resumed([f"resume={tmp_path}", "--config-dir", "mine", "trainer.max_epochs=3"])
    assert arguments[:4] == ["--config-dir", "mine", "backbone=resnet34", "trainer.max_epochs=3"]


def test_resume_auto_reads_a_users_own_config_files(tmp_path: Path) -> None:
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "own.yaml").write_text("# @package _global_\nname: own\n")
    flags = ["--config-dir", str(tmp_path / "mine")]
    # Nothing is there to go on with, so a new run begins.
    assert with_resumed([*flags, "resume=auto", "experiment=own"]) == ([*flags, "experiment=own"], [])


def strange(folder: Path, *overrides: str) -> Path:
    """A run folder with these overrides."""
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "overrides.yaml").write_text(json.dumps(overrides))
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "last.ckpt").touch()
    return folder


@pytest.mark.parametrize("text", ["{a: 1}", "- [1]", "- ][", "- &a x\n- *a", "- " * 5000])
def test_damaged_overrides_are_refused(tmp_path: Path, text: str) -> None:
    (strange(tmp_path) / ".hydra" / "overrides.yaml").write_text(text)
    with pytest.raises(UserError, match=r"overrides\.yaml"):
        with_resumed([f"resume={tmp_path}"])


@pytest.mark.parametrize(
    "override",
    [
        "experiment=../../../../proc/self/cwd/stranger/evil",
        "experiment=/tmp/evil",
        "experiment=sub/evil",
        "experiment=[evil]",
        "backbone=_base",
        "backbone=[resnet18,resnet34]",
        "backbone=18",
        "backbone={resnet18:1}",
    ],
)
def test_a_choice_is_the_name_of_one_of_our_files(override: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{override.partition('=')[0]}=.* is unknown"):
        with_resumed([f"resume={strange(tmp_path, override)}"])


@pytest.mark.parametrize(
    "override",
    [
        "name=${oc.env:HOME}",
        r"name=$\{oc.env:HOME\}",
        "name='${oc.env:HOME}'",
        "dataset.names=[a,{b:'x${oc.env:HOME}'}]",
        "name=${oc.env:${name}}",
        "name=${now:%S}",
        "+hydra.callbacks.x._target_=os.system",
        "+hydra={callbacks:{}}",
        "++Hydra.run.dir=/",
        "+experiment@hydra.callbacks=x",
        "experiment@_global_=x",
        "hydra/launcher=joblib",
        "+[hydra].a=1",
        "--config-dir=/tmp",
        "-m",
        "seed=1,2",
        "seed=range(3)",
        "backbone=glob(*)",
        "name=" + "[" * 3000,
        "name",
        "=",
        "",
        "a b=1",
        "name='\x1b]0;owned\x07",
    ],
)
def test_what_no_run_needs_is_refused(override: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no option of a run") as caught:
        with_resumed([f"resume={strange(tmp_path, 'seed=1', override)}"])
    assert str(caught.value).isprintable() and len(str(caught.value)) < 700


@pytest.mark.parametrize(
    "override",
    [
        "logger.mlflow.folder=/elsewhere",
        "logger.wandb.mode=online",
        "++logger.mlflow={folder: /elsewhere}",
        "dataset.download=true",
        "dataset.sets={a: {name: voc, root: x, download: true}, b: {name: shapes}}",
        "dataset.table=https://elsewhere/table.csv",
        "dataset.images='s3://elsewhere/*.tif'",
        "dataset.images=/vsicurl/elsewhere",
    ],
)
def test_what_reaches_out_of_the_folder_is_typed_again(override: str, tmp_path: Path) -> None:
    folder = strange(tmp_path, "seed=1", override)
    with pytest.raises(UserError, match="may reach out of its folder"):
        with_resumed([f"resume={folder}"])
    assert with_resumed([f"resume={folder}", override])[0][:2] == ["seed=1", override]


@pytest.mark.parametrize(
    "override",
    [
        *(
            "name=${dataset.name}_x",
            "+loss.more=[1,{a:null}]",
            "~loss.smooth",
            "name='a, b=c'",
            "experiment=null",
        ),
        *(
            "logger=csv",
            "logger.tensorboard=false",
            "dataset.root=/home/me/downloads/mode",
            "dataset.download=false",
        ),
    ],
)
def test_what_a_run_may_have_is_repeated(override: str, tmp_path: Path) -> None:
    assert with_resumed([f"resume={strange(tmp_path, override)}"])[0][0] == override


def test_an_option_that_is_typed_again_need_not_be_plain(tmp_path: Path) -> None:
    folder = strange(tmp_path, "seed=1", "dataset.root=${oc.env:DATA}/voc")
    typed = "dataset.root=${oc.env:DATA}/voc"
    assert with_resumed([f"resume={folder}", typed])[0][:2] == ["seed=1", typed]


def test_a_choice_may_lie_in_a_config_folder_that_is_typed(tmp_path: Path) -> None:
    own = tmp_path / "mine" / "experiment"
    own.mkdir(parents=True)
    (own / "own.yaml").write_text("# @package _global_\nname: own\n")
    folder = strange(tmp_path, "experiment=own")
    with pytest.raises(UserError, match="experiment=own is unknown"):
        with_resumed([f"resume={folder}"])
    assert "experiment=own" in with_resumed(["--config-dir", str(own.parent), f"resume={folder}"])[0]


@pytest.mark.parametrize(
    "override",
    [
        "+hydra.callbacks.x={_target_: os.system, command: touch CANARY}",
        "hydra/launcher=foreign",
        "++hydra.job_logging.handlers.console.class=os.system",
        "+loss@hydra.callbacks.x=focal",
        "--config-dir=/tmp",
        "-m",
    ],
)
def test_a_strangers_run_folder_runs_nothing(tmp_path: Path, override: str) -> None:
    canary = tmp_path / "canary"
    (tmp_path / ".hydra").mkdir()
    text = override.replace("CANARY", str(canary))
    (tmp_path / ".hydra" / "overrides.yaml").write_text(json.dumps([text]))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    done = run_script("train.py", f"resume={tmp_path}")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "no option of a run" in done.stderr
    assert not canary.exists()
