"""The command `segmentation` as it is installed, far from the checkout."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT
from scripts import said

from segmentation import __version__
from segmentation.commands import COMMANDS

SMALL = (
    *("backbone=mobilenetv3_small", "head=lraspp", "dataset.size=48", "dataset.train=4", "dataset.val=2"),
    *("dataset.test=2", "data.size=[48,48]", "data.batch_size=2", "trainer.max_epochs=1", "logger=none"),
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The contents of a wheel of the tracked files, as pip lays them down."""
    source, place = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        if name.startswith(("segmentation/", "conf/")) or "/" not in name:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    build = "import setuptools.build_meta as b, sys; print(b.build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", build, str(place)], cwd=source, capture_output=True, text=True, check=True
    )
    with zipfile.ZipFile(place / done.stdout.split()[-1]) as wheel:
        wheel.extractall(place)
    return place


def test_the_wheel_trains_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    assert (installed / "segmentation" / "conf" / "train.yaml").is_file()
    assert not (installed / "conf").exists() and not (installed / "tests").exists()
    (points,) = installed.glob("*.dist-info/entry_points.txt")
    assert "segmentation = segmentation.console:main" in points.read_text()
    begin = (
        f"import sys; sys.path.insert(0, {str(installed)!r}); from segmentation.console import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", begin, "train", *SMALL],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (report,) = tmp_path.glob("outputs/*/*/report.json")
    assert json.loads(report.read_text())["metrics"]["test/miou"] >= 0


def test_init_writes_what_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    out, _, status = said(capsys, "init")
    assert status == 0 and "segmentation train --config-dir conf experiment=mine" in out
    written = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*"))
    assert written == ["classes.yaml", "conf/experiment/mine.yaml"]
    out, err, status = said(capsys, "train", "--config-dir", "conf", "experiment=mine", "--cfg", "job")
    assert status == 0 and "name: mine" in out and "classes: classes.yaml" in out, err
    _, err, status = said(capsys, "init")
    assert status == 2 and "mine.yaml exists already" in err


def test_init_writes_nothing_when_it_is_asked_for_help_or_for_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in (["--help"], ["-h"]):
        out, _, status = said(capsys, "init", *arguments)
        assert status == 0 and out.startswith("Usage: segmentation init\n") and "classes.yaml" in out
    _, err, status = said(capsys, "init", "folder")
    assert status == 2 and "takes no options, folder is one" in err
    assert not [*tmp_path.iterdir()]


def test_every_command_is_listed_and_tells_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ((), ("--help",)):
        out, _, status = said(capsys, *arguments)
        assert status == 0 and all(f"  {name} " in out for name in (*COMMANDS, "init"))
    for name in COMMANDS:
        out, _, _ = said(capsys, name, "--help")
        assert out.startswith(f"Usage: segmentation {name} ")
        assert f"  segmentation {name} " in out and ".py" not in out.partition("Options")[0], name
    assert said(capsys, "--version")[0] == f"segmentation {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tarin"], "There is no command tarin. Did you mean 'train'"),
        (["--verison"], "There is no command --verison. Did you mean '--version'"),
        (["evaluate", "checkpoint=nowhere.ckpt"], "There is no checkpoint nowhere.ckpt"),
        (["train", "backbone=resnet19"], "resnet18"),
    ],
)
def test_a_mistake_is_said_in_a_line(
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    _, err, status = said(capsys, *arguments)
    assert status == 2 and words in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("segmentation ", {"train", "predict", "init"}),
        ("segmentation pre", {"predict", "train"}),  # the shell leaves what fits
        ("segmentation train backbone=resnet1", {"backbone=resnet18", "backbone=resnet101"}),
        ("segmentation predict input=a thres", {"threshold="}),
    ],
)
def test_a_line_is_completed(
    line: str, expected: set[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    out, err, status = said(capsys, "-sc", "query=bash")
    assert status == 0 and expected <= {*out.split()}, err


def test_bash_is_told_how_to_complete(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COMP_LINE", raising=False)
    out, _, status = said(capsys, "-sc", "install=bash")
    assert status == 0 and out.rstrip().endswith("-F hydra_bash_completion segmentation")


def test_scripts_and_commands_have_the_same_names() -> None:
    scripts = {path.stem.partition("_")[0] for path in ROOT.glob("*.py")} - {"setup"}
    assert scripts == set(COMMANDS)
    assert all((ROOT / "conf" / f"{name}.yaml").is_file() for name in COMMANDS)
