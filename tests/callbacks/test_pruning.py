"""A run that is worse than the median of the others at the same epoch ends; any other goes on."""

import csv
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_validations import trained

from segmentation.callbacks.pruning import Pruning


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


def test_what_was_reached_is_remembered(tmp_path: Path) -> None:
    first, second = (Pruning(tmp_path, monitor="val/miou", least_runs=1, warmup_epochs=0) for _ in range(2))
    first._own = [0.5, 0.25]
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == {"scores": [0.5, 0.25]}
