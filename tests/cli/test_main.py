"""Help, short messages for mistakes on the command line, and the way from a script to the training."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import run_script, said

from segmentation.cli.main import help_text
from segmentation.cli.messages import explain

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
        ("epochs=3", "There is no option 'epochs': write trainer.max_epochs=VALUE."),
        ("lr=0.1", "write optimizer.lr=VALUE"),
        ("batch_size=4", "write data.batch_size=VALUE"),
        ("root=/x", "write dataset.root=VALUE"),
        ("size=[64,64]", "write data.size=VALUE"),
        ("--config-dir=nowhere", "nowhere: --config-dir takes one with config files in it."),
        ("--epochs=3", "There is no flag --epochs: options have no dashes. Write trainer.max_epochs=3."),
        ("--backbone", "Write backbone=VALUE."),
        ("dataset.root=it's [a] path=ü", "There is no folder it's [a] path=ü"),
    ],
)
def test_wrong_options(argument: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, err, status = said(capsys, "train", f"hydra.run.dir={tmp_path}", argument)
    assert status == 2
    assert words in err
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    assert len(err) < 400


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        ("train", ["--epochs", "3"], "Write trainer.max_epochs=3."),
        ("train", ["-m", "seed=1,2", "--batch-size", "4"], "Write data.batch_size=4."),
        ("evaluate", ["--split", "val"], "Write split=val."),
        ("evaluate", ["checkpoint=a", "root=b"], "write dataset.root=VALUE"),
        ("predict", ["--input", "a b.jpg"], "Write input=a b.jpg."),
    ],
)
def test_options_of_other_programs_are_translated(
    script: str, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, err, status = said(capsys, script, *arguments)
    assert (status, len(err.splitlines())) == (2, 1)
    assert words in err


@pytest.mark.parametrize(
    ("words", "cure"),
    [
        ("Could not determine home directory.", "write the whole path"),
        (
            "some_backward_cuda does not have a deterministic implementation, but",
            "trainer.deterministic=warn",
        ),
    ],
)
def test_errors_of_libraries_get_a_cure(words: str, cure: str) -> None:
    assert cure in str(explain(RuntimeError(words)))
    assert explain(RuntimeError("anything else")) is None


def test_a_malformed_file_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "mine.yaml").write_text("name: focal\n gamma: [1\n")
    done = run_script("train.py", f"--config-dir={tmp_path}", "loss=mine", f"hydra.run.dir={tmp_path}")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "mine.yaml, line 2: " in done.stderr
    assert "correct the YAML" in done.stderr


def test_the_traceback_comes_back_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    done = run_script("train.py", "backbone=resnet19", f"hydra.run.dir={tmp_path}", fresh=True)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_help_may_be_read_in_part() -> None:
    with subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()  # before anything was written, as `head` closes it afterwards
        assert (process.stderr.read(), process.wait(60)) == (b"", 0)


def test_help_names_every_group_option_and_key() -> None:
    text = help_text("python train.py", "What it does.", ROOT / "conf", "train")
    assert "What it does." in text
    for path in (ROOT / "conf").glob("*/*.yaml"):
        if path.parent.name != "hydra":
            inherited = path.stem.startswith("_")  # other options inherit from it; it is no choice
            assert (path.stem in text) is not inherited
    for key in ("weights=auto", "data.batch_size=", "output_stride=", "resume="):
        assert key in text
    assert max(map(len, text.splitlines())) <= 120


# Runs train.py up to `Trainer.fit`, and writes down the functions of this project that are being called then.
FRAMES = """
import json, runpy, sys, traceback
from pathlib import Path
from pytorch_lightning import Trainer

root = Path(sys.argv[1])


def fit(self, *args, **options):
    files = [(Path(frame.filename), frame.name) for frame in traceback.extract_stack()]
    ours = [f"{file.relative_to(root)}:{name}" for file, name in files if file.is_relative_to(root)]
    Path("frames.json").write_text(json.dumps([each for each in ours if not each.startswith((".venv", "tests"))]))
    raise SystemExit


Trainer.fit = fit
sys.argv = [str(root / "train.py"), *sys.argv[2:]]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_run_passes_few_functions_on_its_way_to_fit(tmp_path: Path) -> None:
    (tmp_path / "frames.py").write_text(FRAMES)
    options = ["backbone=mobilenetv3_small", "head=lraspp", "dataset.train=2", "dataset.val=1", "logger=none"]
    run_script(str(tmp_path / "frames.py"), str(ROOT), *options, "hydra.run.dir=run", folder=tmp_path)
    frames = json.loads((tmp_path / "frames.json").read_text())
    assert frames[0] == "train.py:<module>" and frames[-1] == "segmentation/training.py:train"
    assert len(frames) <= 5, frames
