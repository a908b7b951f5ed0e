"""Which validation's weights a checkpoint keeps."""

from math import nan
from pathlib import Path

import pytest
import torch
from made_validations import trained

from segmentation.callbacks.checkpoint import RunCheckpoint


def epoch_of(path: Path) -> int:
    epoch: int = torch.load(path, weights_only=True)["epoch"]
    return epoch


@pytest.mark.parametrize(
    ("monitor", "scores", "losses", "best"),
    [
        ("val/miou", [0.5, 0.7, 0.6], [1, 1, 0.5], 1),
        ("val/miou", [0.5, 0.5, 0.5], [1, 0.5, 0.7], 1),  # equal scores: the lower loss
        ("val/miou", [0.5, 0.5, 0.4], [1, 1, 1], 1),  # all is equal: the later epoch
        ("val/miou", [nan, 0.0, nan], [1, 2, 0.1], 1),  # no score is no better than the worst
        ("val/miou", [nan, nan, nan], [1, 0.5, 0.7], 1),
        ("val/miou", [0.5, 0.5, 0.5], [1, nan, nan], 0),
        ("val/loss", [0.5, 0.7, 0.6], [1, 2, 3], 0),  # lower is better, by the name alone
        ("val/loss", [0.1, 0.1, 0.1], [2, 1, 1], 2),
        ("val/loss", [0.1, 0.1, 0.1], [nan, 3, nan], 1),
        ("val/precision", [0.1, 0.3, 0.2], [1, 2, 3], 1),
    ],
)
def test_the_best_validation_is_kept(
    monitor: str, scores: list[float], losses: list[float], best: int, tmp_path: Path
) -> None:
    validations = [{monitor: score, "val/loss": loss} for score, loss in zip(scores, losses, strict=True)]
    trained(validations, RunCheckpoint(tmp_path, "best", monitor), RunCheckpoint(tmp_path, "last"))
    assert epoch_of(tmp_path / "best.ckpt") == best
    assert epoch_of(tmp_path / "last.ckpt") == 2


@pytest.mark.parametrize("monitor", ["val/miou", "val/loss"])
def test_a_resumed_run_knows_what_the_best_was(monitor: str, tmp_path: Path) -> None:
    validations = [{"val/miou": 0.5, "val/loss": loss} for loss in (1.0, 2.0, 3.0)]
    for until in (2, 3):
        monitors = {"best": monitor, "best_loss": "val/loss", "last": None}
        checkpoints = [RunCheckpoint(tmp_path, name, given) for name, given in monitors.items()]
        last = tmp_path / "last.ckpt"
        trained(
            validations[:until], *checkpoints, ckpt_path=last if last.exists() else None, weights_only=True
        )
        assert epoch_of(tmp_path / "best.ckpt") == 0
