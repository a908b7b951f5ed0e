"""A mistake on the command line ends in one short line and exit status 2."""

import json
from pathlib import Path

import pytest
from scripts import run_script

from segmentation.cli.main import help_text
from segmentation.cli.resume import resumed
from segmentation.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("backbone=resnet19", "Did you mean 'resnet18'?"),
        ("bakbone=resnet18", "Did you mean 'backbone'?"),
        ("data.batchsize=3", "Did you mean 'batch_size'?"),
        ("trainer.max_epoch=3", "Did you mean 'max_epochs'?"),
        ("trainer=degub", "Did you mean 'debug'?"),
        ("dataset=voc", "dataset.root is missing"),
        ("experiment=voc_resnet18", "Did you mean 'voc_resnet18_aux'?"),
        ("data.size=[96", "cannot be read"),
        ("optimizer.lr=interval(a,b)", "str is incompatible"),
        ("seed", "KEY=VALUE"),
        ("weights=${nothing}", "weights refers to something that is not there"),
        ("backbone=resnet18,resnet34", "--multirun"),
        ("resume=nowhere", "no run folder"),
        ("-mcjob", "Only one of --run, --multirun, --cfg"),
        ("+data.size=3", "data.size"),
        ("loss=null", "cannot be null"),
        ("hydra.run.dir=/proc/nope", "/proc/nope"),
    ],
)
def test_wrong_options(argument: str, words: str, tmp_path: Path) -> None:
    done = run_script("train.py", f"hydra.run.dir={tmp_path}", argument)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert len(done.stderr) < 400


def test_the_traceback_comes_back_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    done = run_script("train.py", "backbone=resnet19", f"hydra.run.dir={tmp_path}", fresh=True)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_help_names_every_group_option_and_key() -> None:
    text = help_text("train.py", "What it does.", ROOT / "conf", "train")
    assert "What it does." in text
    for path in (ROOT / "conf").glob("*/*.yaml"):
        if path.parent.name != "hydra":
            assert path.stem in text
    for key in ("weights=none", "data.batch_size=", "output_stride=", "resume="):
        assert key in text
    assert max(map(len, text.splitlines())) <= 120


def test_resume_repeats_the_overrides_in_the_same_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a, b=c"
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text("- backbone=resnet34\n- resume=elsewhere\n")
    with pytest.raises(UserError, match="no epoch was finished"):
        resumed([f"resume={folder}"])
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "last.ckpt").touch()
    arguments = resumed([f"resume={folder}", "trainer.max_epochs=9"])
    assert arguments == [
        "backbone=resnet34",
        "trainer.max_epochs=9",
        f"resume='{folder}'",
        f"hydra.run.dir='{folder}'",
        "hydra.output_subdir=null",
    ]
    assert resumed([f"+resume={folder}"]) == resumed([f"resume={folder}"])
    with pytest.raises(UserError, match="already holds a run"):
        resumed([f"hydra.run.dir='{folder}'"])


def test_flags_may_stand_anywhere_beside_resume(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_text("- backbone=resnet34\n")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    arguments = resumed([f"resume={tmp_path}", "--config-dir", "mine", "trainer.max_epochs=3"])
    assert arguments[:4] == ["--config-dir", "mine", "backbone=resnet34", "trainer.max_epochs=3"]


def test_resume_auto_reads_a_users_own_config_files(tmp_path: Path) -> None:
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "own.yaml").write_text("# @package _global_\nname: own\n")
    flags = ["--config-dir", str(tmp_path / "mine")]
    # Nothing is there to go on with, so a new run begins.
    assert resumed([*flags, "resume=auto", "experiment=own"]) == [*flags, "experiment=own"]


@pytest.mark.parametrize("text", ["{a: 1}", "- [1]", "- ]["])
def test_damaged_overrides_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_text(text)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    with pytest.raises(UserError, match="damaged"):
        resumed([f"resume={tmp_path}"])


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
