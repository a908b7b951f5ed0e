"""inspect_data.py: its outputs, its exit statuses, and options that are refused."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from made_data import save
from made_faults import clean, square
from scripts import run_script, said

WRONG = "error: {}, no notes. Correct what is wrong before a training.\n"
NAMES = "dataset.names=[background,thing]"


def test_clean_and_spoilt_data(tmp_path: Path) -> None:
    clean(tmp_path / "data")
    common = ("dataset=folder", f"dataset.root={tmp_path / 'data'}", NAMES, "workers=1")
    done = run_script("inspect_data.py", *common, f"output={tmp_path / 'one'}", fresh=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Findings: no errors, no warnings, no notes" in done.stdout
    assert "data.size=[64, 64]" in done.stdout  # the plan
    assert (tmp_path / "one/data_report.html").is_file()

    save(tmp_path / "data/masks/p04.png", square(4, 9))
    done = run_script("inspect_data.py", *common, f"output={tmp_path / 'two'}", "format=json")
    assert (done.returncode, done.stderr) == (
        2,
        WRONG.format(f"folder {tmp_path / 'data'}: 1 error, no warnings"),
    )
    report = json.loads(done.stdout)
    assert report["exit_status"] == 2
    (finding,) = report["findings"]
    assert (finding["id"], finding["severity"], finding["count"]) == ("label-range", "error", 1)
    assert finding["files"] == [str(tmp_path / "data/masks/p04.png")]
    assert finding["cure"][0] == "dataset.ignore=[9]"


@pytest.mark.parametrize(("strict", "status"), [("false", 0), ("true", 2)])
def test_strict_ends_with_2_for_warnings(strict: str, status: int, tmp_path: Path) -> None:
    clean(tmp_path / "data")
    save(tmp_path / "data/masks/p04.png", square(value=255, rest=255))
    done = run_script(
        "inspect_data.py",
        *("dataset=folder", f"dataset.root={tmp_path / 'data'}", NAMES, "workers=1"),
        *(f"strict={strict}", f"output={tmp_path / 'out'}"),
    )
    assert done.returncode == status
    assert done.stderr == (
        WRONG.format(f"folder {tmp_path / 'data'}: no errors, 1 warning") if status else ""
    )
    assert "ignored-mask" in done.stdout


def test_a_folder_that_is_not_understood_is_reported_too(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.png").write_bytes(b"no picture")
    done = run_script("inspect_data.py", f"dataset.root={tmp_path / 'data'}", f"output={tmp_path / 'out'}")
    assert (done.returncode, done.stderr) == (
        2,
        WRONG.format(f"auto {tmp_path / 'data'}: 2 errors, no warnings"),
    )
    assert "error   layout: " in done.stdout
    assert "error   unreadable: 1 of 1 pictures below" in done.stdout
    assert (tmp_path / "out/data_report.html").is_file()


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("only=[unreadible]", "only=unreadible is no finding. Did you mean 'unreadable'?"),
        ("skip=nothing", "skip=nothing is no finding."),
        ("format=xml", "format=xml is unknown."),
        ("dataset.rot=1", "rot"),
        ("data.pixel_range=[5,1]", "The pixel range 5..1 is empty"),
    ],
)
def test_wrong_options_are_refused(
    option: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, err, status = said(capsys, "inspect", "dataset=shapes", option, f"output={tmp_path / 'out'}")
    assert status == 2
    assert words in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_several_inspections_in_one_command(tmp_path: Path) -> None:
    one = ("-m", "dataset=shapes", "dataset.train=8,9", "dataset.val=8", "dataset.test=8")
    done = run_script("inspect_data.py", *one, f"output={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in sorted(tmp_path.glob("out/*/data_report.html"))] == ["data_report.html"] * 2


def test_it_does_not_import_torch() -> None:
    code = (
        "import sys, segmentation.doctor; print([name for name in ('torch', 'hydra') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
