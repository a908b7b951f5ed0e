"""torch's threads rest soon, unless a user has said how they are to wait."""

import os
import subprocess
import sys

import pytest
from scripts import ROOT

from segmentation.threads import rest_soon

COMMAND = """
import runpy, sys
import segmentation.threads
segmentation.threads.rest_soon = lambda: print("torch" in sys.modules)
sys.argv = [sys.argv[1], "--cfg", "job"]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, "30000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "active"}, None),
    ],
    ids=str,
)
def test_threads_rest_unless_told_otherwise(
    given: dict[str, str], found: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", dict(given))
    rest_soon()
    assert os.environ.get("GOMP_SPINCOUNT") == found


@pytest.mark.parametrize(
    "script", ["train.py", "evaluate.py", "predict.py", "benchmark.py", "leaderboard.py"]
)
def test_commands_say_so_before_torch_is_there(script: str) -> None:
    command = [sys.executable, "-c", COMMAND, script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "False"
