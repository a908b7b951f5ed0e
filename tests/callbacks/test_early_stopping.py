"""When a training ends early, and that it says why."""

import logging
from math import inf, nan
from pathlib import Path

import pytest
from made_validations import trained

from segmentation.callbacks.checkpoint import RunCheckpoint
from segmentation.callbacks.early_stopping import EarlyStopping


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
