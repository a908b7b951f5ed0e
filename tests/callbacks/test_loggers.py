"""Loggers: each tells the scores, options and pictures of a run, and is asked for in one line where it is missing."""

import csv
import importlib.util
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from conftest import composed
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger
from pytorch_lightning.loggers.logger import DummyLogger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from segmentation.callbacks import build_loggers, closing, log_choices, log_summary
from segmentation.callbacks.loggers import log_picture
from segmentation.errors import UserError

OTHERS = ("wandb", "mlflow", "trackio")


def options(name: str, folder: Path) -> dict[str, Any]:
    """The section of `logger=NAME` with its files in `folder`."""
    section: dict[str, Any] = composed(f"logger={name}")["logger"]
    for inner in section.values():
        if isinstance(inner, dict):
            inner["folder"] = str(folder)
    return section


def write(loggers: list[Logger]) -> None:
    """What a run writes."""
    with closing(loggers):
        log_choices(loggers, composed())
        for logger in loggers:
            logger.log_metrics({"val/miou": 0.5, "epoch": 0}, 3)
            log_picture(logger, "val/predictions", Image.new("RGB", (8, 8), "red"), 3)
            logger.save()
        log_summary(loggers, composed(), {"val/miou": 0.5})


@pytest.fixture
def trackio(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Any, ...]]]:
    """A stand-in for the package, and what it was told."""
    told: list[tuple[Any, ...]] = []
    run = SimpleNamespace(config={}, log=lambda metrics, step: told.append((metrics, step, {**run.config})))
    module = ModuleType("trackio")
    module.__spec__ = ModuleSpec("trackio", None)
    vars(module).update(
        init=lambda project, name, **options: told.append((project, name, options["resume"])) or run,
        finish=lambda: told.append(("end",)),
        Image=lambda picture: picture.size,
    )
    monkeypatch.setitem(sys.modules, "trackio", module)
    monkeypatch.setenv("TRACKIO_DIR", "")
    return told


def test_each_option_names_its_logger(tmp_path: Path) -> None:
    kinds = {"tensorboard": [TensorBoardLogger], "csv": [CSVLogger], "none": []}
    for name, expected in kinds.items():
        assert [type(each) for each in build_loggers(tmp_path, **options(name, tmp_path))] == expected


def test_csv_has_the_scores_and_the_options(tmp_path: Path) -> None:
    write(build_loggers(tmp_path, **options("csv", tmp_path)))
    with (tmp_path / "csv" / "version_0" / "metrics.csv").open() as file:
        assert [row["val/miou"] for row in csv.DictReader(file)] == ["0.5"]
    assert "optimizer.lr: 0.001" in (tmp_path / "csv" / "version_0" / "hparams.yaml").read_text()


@pytest.mark.parametrize("name", OTHERS)
def test_a_missing_package_is_asked_for(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segmentation.callbacks.loggers.find_spec", lambda name: None)
    with pytest.raises(UserError, match=rf"needs {name}: pip install '\.\[{name}\]'"):
        build_loggers(tmp_path, **options(name, tmp_path))
    assert not [*tmp_path.iterdir()]


def test_trackio_gets_scores_pictures_and_options(trackio: list[tuple[Any, ...]], tmp_path: Path) -> None:
    run = tmp_path / "shapes" / "2026-01-02"
    loggers = build_loggers(run, **options("trackio", tmp_path / "store"))
    assert not trackio  # before the first step nothing is written
    write(loggers)
    (begun, (scores, step, chosen), (picture, _, _), end) = trackio
    assert begun == ("shapes_resnet18", "shapes-2026-01-02", "allow") and end == ("end",)
    assert (scores["val/miou"], step, chosen["backbone"]) == (0.5, 3, "resnet18")
    assert picture == {"val/predictions": (8, 8)}


def test_other_processes_open_no_store(
    trackio: list[tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    (logger,) = build_loggers(tmp_path, **options("trackio", tmp_path))
    assert isinstance(logger, DummyLogger) and not trackio


@pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="mlflow is not installed")
def test_mlflow_goes_on_with_a_run(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    for _ in range(2):
        # An apostrophe would end the text that MLflow is asked for.
        write(build_loggers(tmp_path / "o'brien", **options("mlflow", tmp_path)))
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("shapes_resnet18")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.data.metrics["val/miou"] == 0.5 and found.data.params["backbone"] == "resnet18"
    assert [*(tmp_path / "mlflow").rglob("*.png")]


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")
def test_wandb_writes_and_sends_nothing(tmp_path: Path) -> None:
    write(build_loggers(tmp_path / "run", **options("wandb", tmp_path)))
    (run,) = (tmp_path / "wandb").glob("offline-run-*")
    assert [*run.glob("*.wandb")] and [*run.rglob("*.png")]
