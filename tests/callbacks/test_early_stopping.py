"""When a training ends early, and that it says why; runs worse than the median of their sweep's others end too."""

import csv
import logging
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_validations import trained

from segmentation.callbacks.checkpoint import RunCheckpoint
from segmentation.callbacks.early_stopping import EarlyStopping, Pruning


@pytest.mark.parametrize(
    ("monitor", "scores", "epochs", "reason"),
    [
        ("val/loss", [3, 2, 1, 0.5], 4, ""),
        ("val/loss", [1, 2, 3, 4], 3, "val/loss is not better than 1.0000 in 2 validations"),
        ("val/miou", [0.1, 0.2, 0.3, 0.4], 4, ""),  # higher is better, by the name alone
        ("val/miou", [0.4, 0.3, 0.2, 0.1], 3, "val/miou is not better than 0.4000 in 2 validations"),
        ("val/precision", [nan, 0.2, 0.3, 0.4], 4, ""),  # before the first foreground
        ("val/precision", [nan, nan, nan, 0.4], 2, "val/precision is not better than"),
        ("val/loss", [1, nan, 0.5, 0.4], 2, "val/loss is nan"),  # the training has diverged
        ("val/loss", [1, inf, 0.5, 0.4], 2, "val/loss is inf"),
    ],
)
def test_an_end_follows_the_metric_and_has_a_reason(
    monitor: str, scores: list[float], epochs: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "segmentation"):
        trainer = trained(
            [{monitor: score} for score in scores], EarlyStopping(monitor, patience=2, min_delta=0.0)
        )
    assert trainer.current_epoch == epochs
    said = [line for line in caplog.messages if "early stopping" in line]
    assert len(said) == bool(reason)
    assert all(reason in line and f"epoch {epochs}" in line for line in said)


@pytest.mark.parametrize(("patience", "epochs"), [(1, 3), (4, 5)])
def test_a_resumed_run_has_the_patience_of_its_own_options(
    patience: int, epochs: int, tmp_path: Path
) -> None:
    validations = [{"val/loss": loss} for loss in (1.0, 2.0, 3.0, 4.0, 5.0)]
    trained(
        validations[:2], EarlyStopping("val/loss", patience=9, min_delta=0.0), RunCheckpoint(tmp_path, "last")
    )
    resumed = trained(
        validations,
        EarlyStopping("val/loss", patience=patience, min_delta=0.0),
        RunCheckpoint(tmp_path, "last"),
        ckpt_path=tmp_path / "last.ckpt",
        weights_only=True,
    )
    assert resumed.current_epoch == epochs


def describe(folder: Path, data: str = "shapes", epochs: int = 4) -> None:
    config = {"dataset": {"name": data}, "trainer": {"max_epochs": epochs}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def other(folder: Path, scores: list[float], **about: Any) -> None:
    folder.mkdir()
    describe(folder, **about)
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "step", "val/miou", "val/loss"])
        writer.writerows((epoch, epoch, score, score) for epoch, score in enumerate(scores, start=1))


def epochs_of(
    folder: Path, scores: list[float], *, monitor: str = "val/miou", least_runs: int = 3, warmup: int = 1
) -> int:
    folder.mkdir()
    describe(folder)
    pruning = Pruning(folder, monitor=monitor, least_runs=least_runs, warmup_epochs=warmup)
    return trained([{monitor: score} for score in scores], pruning).current_epoch


@pytest.mark.parametrize(
    ("scores", "options", "epochs"),
    [
        ([0.1, 0.2, 0.3, 0.4], {}, 2),  # the median of 0.5, 0.4 and 0.3 is 0.4 after the second epoch
        ([0.1, 0.5, 0.1, 0.9], {}, 3),  # what was once reached counts, until the others reach more
        ([0.1, 0.4, 0.6, 0.6], {}, 4),  # the median itself is not below it
        ([0.1, 0.2, 0.3, 0.4], {"warmup": 2}, 3),
        ([0.1, 0.2, 0.3, 0.4], {"warmup": 3}, 4),  # at its end there is nothing to spare
        ([0.1, 0.2, 0.3, 0.4], {"least_runs": 4}, 4),
        ([0.9, 0.9, 0.9, 0.9], {"monitor": "val/loss"}, 2),
        ([float("nan"), float("nan"), 0.3, 0.4], {}, 3),
    ],
)
def test_the_median_rule(
    scores: list[float], options: dict[str, object], epochs: int, tmp_path: Path
) -> None:
    for name, reached in (
        ("a", [0.3, 0.5, 0.7, 0.8]),
        ("b", [0.4, 0.2, 0.6, 0.6]),
        ("c", [0.3, 0.3, 0.3, 0.3]),
    ):
        other(tmp_path / name, reached)
    other(tmp_path / "young", [0.99])
    other(tmp_path / "easier", [0.99] * 4, data="others")
    other(tmp_path / "longer", [0.99] * 8, epochs=8)
    other(tmp_path / "torn", [0.99] * 4)
    (tmp_path / "torn" / "config.yaml").write_text("dataset: {na")
    assert epochs_of(tmp_path / "run", scores, **options) == epochs  # type: ignore[arg-type]
    told = tmp_path / "run" / "pruned.txt"
    assert told.exists() == (epochs < 4)
    if told.exists():
        assert told.read_text().startswith(f"pruned after epoch {epochs} of 4: val/")


def test_an_epoch_is_compared_when_it_is_over(tmp_path: Path) -> None:
    """Of several validations of an epoch the history has the last alone."""
    for name in "abc":
        other(tmp_path / name, [0.5, 0.5])
    run = tmp_path / "run"
    run.mkdir()
    describe(run, epochs=2)
    pruning = Pruning(run, monitor="val/miou", least_runs=3, warmup_epochs=0)
    scores = [{"val/miou": score} for score in (0.1, 0.6, 0.7, 0.8)]
    assert trained(scores, pruning, steps=2).current_epoch == 2
    assert not (run / "pruned.txt").exists()


def test_what_was_reached_is_remembered(tmp_path: Path) -> None:
    first, second = (Pruning(tmp_path, monitor="val/miou", least_runs=1, warmup_epochs=0) for _ in range(2))
    first._own = [0.5, 0.25]
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == {"scores": [0.5, 0.25]}
