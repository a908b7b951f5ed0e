"""`trainer=profile` records a few training steps."""

import json
from pathlib import Path

from scripts import run_script


def test_a_profile_holds_a_table_of_operators_and_a_trace(tmp_path: Path) -> None:
    done = run_script(
        "train.py",
        *("trainer=profile", "trainer.accelerator=cpu", "dataset.size=48", "data.size=[48,48]"),
        *(
            "dataset.train=10",
            "dataset.val=1",
            "dataset.test=1",
            "data.batch_size=1",
            "callbacks.grid.images=0",
        ),
        # Few layers: each of them is in the trace.
        *("backbone=timm", "backbone.name=test_resnet", "head=fcn"),
        *("logger=none", f"hydra.run.dir={tmp_path}"),
    )
    assert done.returncode == 0, done.stderr
    assert "convolution" in (tmp_path / "profile" / "fit-operators.txt").read_text()
    (trace,) = (tmp_path / "profile").glob("*.json")
    events = json.loads(trace.read_text())["traceEvents"]
    assert any("convolution" in event.get("name", "") for event in events)
