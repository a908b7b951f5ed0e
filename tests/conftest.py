"""What every test stands on: one thread, composed configs, and tiny data of every layout."""

import os

# Before any test imports torch: the suite runs one process a core.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# As the commands do before OpenCV is imported.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

import functools
import gc
import logging
import signal
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_annotations import coco, cvat, labelme, labelstudio, regions, yolo
from made_data import MAKERS
from made_earth import city
from PIL import Image

from segmentation.cli import compose
from segmentation.types import voc_palette

# A shell starts what runs in the background deaf to Ctrl-C, and a test that sends it would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)

# pytest hands a handler to each logger that does not propagate, and torch would describe each step of a compilation.
logging.getLogger("torch.__trace").propagate = True

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"

Config = dict[str, Any]


def pytest_collection_finish() -> None:
    """What the libraries brought stays: searching it for garbage took a third of the time of an export.

    What a test makes is searched less often: after the 700 objects that Python waits for it took a third again.
    """
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


def pytest_unconfigure() -> None:
    """Else a library that counts what it is left with tells of it at the end."""
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _alike() -> Iterator[None]:
    """Random values of a test are the same whatever ran before it, and the next one has as many threads."""
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == threads, "several threads in several processes wait for each other"


def composed(*overrides: str) -> Config:
    """The config that train.py would get, as plain data. Composing takes as long as a few training steps."""
    return deepcopy(_composed(*overrides))


@functools.cache
def _composed(*overrides: str) -> Config:
    return compose("train", *overrides)


def write_pair(
    images: Path, masks: Path, name: str, labels: int, palette: bytes | None = None, scale: int = 1
) -> None:
    """An image that shows its own mask in grey, and the mask, as PNG."""
    for folder in (images, masks):
        folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(list(name.encode()))
    mask = np.kron(random.integers(0, labels, (6, 8), dtype=np.uint8), np.ones((8, 8), np.uint8))
    image = np.repeat((mask * (200 // max(labels - 1, 1)))[..., None], 3, axis=2) + random.integers(
        0, 20, (48, 64, 3)
    )
    Image.fromarray(image.astype(np.uint8)).save(images / f"{name}.jpg", quality=95)
    picture = Image.fromarray(mask * np.uint8(scale))
    if palette:
        picture.putpalette(palette)
    picture.save(masks / f"{name}.png")


def make_binary(root: Path) -> Path:
    """images/ and masks/ of 0/255, twelve pairs."""
    for index in range(12):
        write_pair(root / "images", root / "masks", f"b{index:02d}", labels=2, scale=255)
    return root


def make_folder(root: Path, labels: int = 11) -> Path:
    """train, val and test with images and masks, as CamVid has them, and a classes.yaml."""
    for split in ("train", "val", "test"):
        for index in range(4):
            write_pair(root / split / "images", root / split / "masks", f"{split}{index}", labels)
    (root / "classes.yaml").write_text(f"names: [{', '.join(f'c{label}' for label in range(labels))}]\n")
    return root


def make_voc(root: Path) -> Path:
    """The devkit's tree with palette masks."""
    palette = bytes(np.array(voc_palette(256), np.uint8))
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    names = [f"2007_{index:06d}" for index in range(8)]
    for name in names:
        write_pair(root / "JPEGImages", root / "SegmentationClass", name, labels=21, palette=palette)
    for split, part in {"train": names[:5], "val": names[5:], "trainval": names}.items():
        (lists / f"{split}.txt").write_text("\n".join(part) + "\n")
    return root


@pytest.fixture(scope="session")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny data for every dataset that needs a root."""
    makers: dict[str, Callable[[Path], object]] = {
        "binary": make_binary,
        "folder": make_folder,
        "geotiff": city,
        "voc": make_voc,
        **MAKERS,
        **{make.__name__: make for make in (coco, cvat, labelme, labelstudio, regions, yolo)},
    }
    made = {name: tmp_path_factory.mktemp(name) for name in makers}
    for name, make in makers.items():
        make(made[name])
    return {**made, "auto": made["binary"], "camvid": made["folder"]}


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures, which take as long as the rest of a tiny run, have tests of their own."""
    for name in ("training.draw_curves", "callbacks.history.draw_curves", "report.html.draw_figures"):
        monkeypatch.setattr(f"segmentation.{name}", lambda *_: None)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What torch.compile was asked to compile, and left as it is: making kernels takes minutes."""
    import torch

    asked: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda model, **_: asked.append(model) or model)
    return asked
