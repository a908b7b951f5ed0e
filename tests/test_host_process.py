"""A program that uses the package as a library keeps its own settings."""

import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from made_predictors import write_checkpoint
from PIL import Image

from segmentation.data.image_io import open_picture
from segmentation.data.opening import opened
from segmentation.errors import UserError
from segmentation.library_warnings import library_warnings_hidden

PROBE = """
import importlib, logging, os, pkgutil, sys, warnings

# What these do at their import is theirs.
import cv2, hydra, matplotlib.pyplot, numpy, PIL.Image, PIL.TiffImagePlugin, pydantic, rasterio
import torch, torch._dynamo, torch._inductor.config, torchvision, timm, pytorch_lightning, tensorboard, torchmetrics

def state():
    loggers = {name: logging.getLogger(name).level for name in list(logging.root.manager.loggerDict)}
    return {
        "limit": PIL.Image.MAX_IMAGE_PIXELS,
        "filters": list(warnings.filters),
        "environment": dict(os.environ),
        "OpenCV": cv2.utils.logging.getLogLevel() if hasattr(cv2.utils, "logging") else cv2.getLogLevel(),
        "threads": (cv2.getNumThreads(), torch.get_num_threads()),
        "levels": {name: level for name, level in loggers.items() if name in known},
        "freezing": torch._inductor.config.freezing,
    }

known = set(logging.root.manager.loggerDict)
before = state()
import segmentation
for module in pkgutil.walk_packages(segmentation.__path__, "segmentation."):
    importlib.import_module(module.name)
predictor = segmentation.load(sys.argv[1], device="cpu")
predictor.predict(numpy.zeros((20, 30, 3), numpy.uint8))
predictor.predict(sys.argv[2])
after = state()
for name in before:
    if before[name] != after[name]:
        print(name, before[name], after[name], sep="\\n  ")
print("compared", len(before))
"""


def test_importing_and_loading_leave_the_process_alone(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "best.ckpt")
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "a.tif")
    ours = ("OPENCV_LOG_LEVEL", "NO_ALBUMENTATIONS_UPDATE", "HF_HUB_DISABLE_TELEMETRY", "KINETO_LOG_LEVEL")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(checkpoint), str(tmp_path / "a.tif")],
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["compared 7"]


def test_large_pictures_are_read_while_the_limit_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "large.png")
    assert (np.array(open_picture(tmp_path / "large.png")) == pixels).all()
    assert Image.MAX_IMAGE_PIXELS == 100
    with pytest.raises(Image.DecompressionBombError):
        Image.open(tmp_path / "large.png")
    monkeypatch.setattr("segmentation.data.opening.MAX_PIXELS", 500)
    with pytest.raises(UserError, match="30x20 pixels, more than 500"):
        open_picture(tmp_path / "large.png")
    assert Image.MAX_IMAGE_PIXELS == 100


def test_threads_that_read_large_pictures_leave_limit_and_filters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first to begin ends first, while the second still reads."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    before = list(warnings.filters)
    path = tmp_path / "large.png"
    Image.new("RGB", (30, 20)).save(path)
    second_reads, first_ended = threading.Event(), threading.Event()
    sizes = []

    def second() -> None:
        with opened(path) as picture:
            second_reads.set()
            assert first_ended.wait(20)
            with opened(path) as again:
                again.load()
            picture.load()
            sizes.append(picture.size)

    thread = threading.Thread(target=second)
    with opened(path):
        thread.start()
        assert second_reads.wait(20)
    first_ended.set()
    thread.join()
    assert sizes == [(30, 20)]
    assert Image.MAX_IMAGE_PIXELS == 100
    assert warnings.filters == before


def test_messages_are_hidden_only_while_a_use_case_runs() -> None:
    before = list(warnings.filters)
    with library_warnings_hidden():
        warnings.warn("The dataloader does not have many workers which may be a bottleneck", stacklevel=1)
    assert warnings.filters == before
    with pytest.warns(UserWarning, match="many workers"):
        warnings.warn("The dataloader does not have many workers which may be a bottleneck", stacklevel=1)


def test_commands_keep_opencv_silent() -> None:
    code = (
        "import os, sys; sys.argv = ['predict.py', '--cfg', 'job']\n"
        "import runpy; runpy.run_path('predict.py', run_name='__main__')\n"
        "import cv2; print(cv2.utils.logging.getLogLevel() if hasattr(cv2.utils, 'logging') else cv2.getLogLevel())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OPENCV_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "0"
