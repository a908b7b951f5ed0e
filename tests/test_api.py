"""The commands from Python, and how their results show themselves."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_pair
from scripts import warm_python

import segmentation
from segmentation.api import Run
from segmentation.errors import UserError

SMALL = {
    "backbone": "mobilenetv3_small",
    "head": "lraspp",
    "dataset": {"size": 48, "train": 4, "val": 2, "test": 2},
    "data": {"size": [48, 48], "batch_size": 2, "workers": 0},
    "trainer": {"max_epochs": 1},
    "logger": "none",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One training from Python, in a folder whose name Hydra's grammar would read as something else."""
    folder = tmp_path_factory.mktemp("a = b,c") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder.parent)
        patch.setattr(sys, "executable", warm_python())
        patch.setenv("FIGURES", "1")
        return segmentation.train("dataset=shapes", hydra={"run": {"dir": folder}}, **SMALL)


def test_a_training_gives_its_scores_and_its_model(run: Run) -> None:
    assert run.report["metrics"]["test/miou"] == run.metrics["test/miou"]
    picture = np.zeros((48, 48, 3), np.uint8)
    prediction = run.load().predict(picture)
    assert prediction.mask.shape == (48, 48)
    assert prediction._repr_png_().startswith(b"\x89PNG")
    page = run._repr_html_()
    assert "test/miou" in page and f"{run.metrics['test/miou']:.4f}" in page
    assert page.count("data:image/png") == 2


def test_an_evaluation_gives_its_report(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", warm_python())
    monkeypatch.setenv("FIGURES", "1")
    found = segmentation.evaluate("split=val", checkpoint=run.checkpoint, output=tmp_path / "out", workers=0)
    assert found.folder == tmp_path / "out"
    assert found.metrics["val/miou"] == pytest.approx(run.metrics["val/miou"], abs=1e-3)
    assert "The report: " in capsys.readouterr().out
    assert found._repr_html_().count("data:image/png") == 2


def test_an_inspection_lists_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for index in range(6):
        write_pair(tmp_path / "d" / "images", tmp_path / "d" / "masks", f"b{index}", labels=2, scale=255)
    good = segmentation.inspect("dataset=binary", dataset={"root": tmp_path / "d"})
    assert good.ok
    (tmp_path / "d" / "masks" / "b0.png").write_bytes(b"no picture")
    bad = segmentation.inspect("dataset=binary", dataset={"root": tmp_path / "d"})
    assert not bad.ok and len(bad) > 0
    assert "unreadable" in {finding["id"] for finding in bad}
    assert "unreadable" in bad._repr_html_()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([{"seed": 1}], "dict is no option: write 'KEY=VALUE'"),
        ([3], "int is no option"),
        (["backbone=resnet19"], "resnet18"),
        (["seed=x"], "seed"),
        (["-m", "seed=1,2"], "-m is for the command line"),
        (["--cfg", "job"], "--cfg is for the command line"),
    ],
)
def test_a_mistake_is_an_error_of_one_line(words: list[Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        segmentation.train(*words)
    assert "\n" not in str(caught.value) and "error:" not in str(caught.value)


@pytest.mark.parametrize(("given", "kind"), [(3, "int"), (None, "NoneType"), (["best.ckpt", 3], "int")])
def test_what_is_no_path_is_no_checkpoint(given: Any, kind: str) -> None:
    with pytest.raises(UserError, match=f"^checkpoint: {kind} is no path"):
        segmentation.load(given)
    with pytest.raises(UserError, match="the list is empty"):
        segmentation.load([])
