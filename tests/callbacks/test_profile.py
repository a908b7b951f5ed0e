"""Where a step's time goes, as the profile says it."""

import json
from pathlib import Path

import pytest
from conftest import composed
from pytorch_lightning import Trainer

from segmentation.build import build_data, build_task
from segmentation.callbacks.profile import Clock, Profile, shares
from segmentation.config import read_training_settings
from segmentation.data import open_dataset


def test_what_lies_within_something_else_counts_for_itself() -> None:
    times = iter([0.0, 1.0, 3.0, 6.0, 10.0, 15.0, 21.0, 28.0])
    clock = Clock(now=lambda: next(times))
    clock.start("[Strategy]SingleDeviceStrategy.optimizer_step")  # at 1
    clock.start("[Strategy]SingleDeviceStrategy.training_step")  # at 3
    clock.go_on_as("loss")  # at 6
    clock.go_on_as("metrics and logging")  # at 10
    clock.stop("[Strategy]SingleDeviceStrategy.training_step")  # at 15
    clock.go_on_as("loss")  # not within a step: nothing
    clock.stop("[Strategy]SingleDeviceStrategy.optimizer_step")  # at 21
    measured = {name: seconds for name, seconds in clock.seconds.items() if seconds}
    assert measured == {
        "Lightning's loop": 1,
        "optimizer": 2 + 6,
        "forward": 3,
        "loss": 4,
        "metrics and logging": 5,
    }


def test_shares_add_up() -> None:
    table = shares({"forward": 1.0, "backward": 3.0}, steps=2)
    assert "| forward | 25.0% | 500.00 |" in table
    assert "| backward | 75.0% | 1500.00 |" in table
    assert table.splitlines()[-1] == "| a step | 100 % | 2000.00 |"


@pytest.mark.parametrize("steps", [6, 3])
def test_a_run_leaves_its_shares_and_stops_when_it_has_its_trace(tmp_path: Path, steps: int) -> None:
    settings = read_training_settings(
        composed(
            *("dataset.size=48", "data.size=[48,48]", "data.batch_size=1", f"dataset.train={steps}"),
            *("backbone=mobilenetv3_small", "head=lraspp", "dataset.val=1", "precision=32-true"),
        )
    )
    source = open_dataset(3, **settings.dataset)
    profile = Profile(tmp_path, warmup=1, steps=3, traced=1)
    trainer = Trainer(
        max_epochs=1,
        callbacks=[profile],
        logger=False,
        accelerator="cpu",
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(build_task(settings, source), datamodule=build_data(settings, source))
    rows = {
        cells[1].strip(): cells[2].strip()
        for line in (tmp_path / "shares.md").read_text().splitlines()
        if len(cells := line.split("|")) > 3
    }
    for name in ("data wait", "forward", "loss", "metrics and logging", "backward", "optimizer"):
        assert float(rows[name].removesuffix("%")) > 0, name
    assert trainer.global_step == min(steps, 5)
    assert (tmp_path / "trace.json").exists() == (steps > 4)
    if steps > 4:
        events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
        assert any("convolution" in event.get("name", "") for event in events)
        assert "convolution" in (tmp_path / "operators.txt").read_text()
