"""Checkpoints spoiled at random: each is used, or refused by one line, and runs nothing."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from conftest import composed
from made_wrong import outcomes, spoiled, with_wrong_part, wrong

from segmentation import load as load_predictor
from segmentation.checkpoint import describe, load, read_pixel_range
from segmentation.data import open_dataset
from segmentation.data.pixel_range import PixelRange
from segmentation.models import create_segmenter
from segmentation.models.weights_file import read_weights_file
from segmentation.training import train
from segmentation.types import Classes

COLOURS = np.arange(40 * 56 * 3, dtype=np.uint8).reshape(40, 56, 3)


def checkpoint(path: Path) -> dict[str, Any]:
    known = Classes(("background", "thing"), binary=True)
    model = create_segmenter(backbone={"name": "mobilenet_v3_small"}, head={"name": "lraspp"}, outputs=1)
    about = describe(
        model,
        known,
        threshold=0.5,
        size=(64, 64),
        resize=True,
        protocol={"split_sha256": {"val": "0" * 64}},
        dataset={"name": "shapes"},
        pixel_range=PixelRange((0, 0, 0), (9, 9, 9)),
        training={"max_epochs": 5, "loss": "dice", "weights": "none", "licence": "MIT"},
        tile=128,
    )
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    contents = {"segmentation": about, "state_dict": state, "epoch": 3}
    torch.save(contents, path)
    return contents


def with_spoiled_pickle(whole: Path, path: Path, random: Random) -> None:
    """The pickle inside is spoiled, the archive around it whole; or the archive is."""
    if random.random() < 0.2:
        path.write_bytes(wrong(whole.read_bytes(), random))
        return
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, spoiled(content, random) if name.endswith("data.pkl") else content)


def use(path: Path, random: Random) -> None:
    """What commands do with a checkpoint."""
    if random.random() < 0.6:
        load_predictor(path, device="cpu", precision="32-true").predict(COLOURS)
    else:
        random.choice([load, read_pixel_range, lambda path: read_weights_file(str(path))])(path)


def test_checkpoints_of_wrong_bytes(tmp_path: Path) -> None:
    checkpoint(tmp_path / "whole.ckpt")

    def read(random: Random) -> None:
        with_spoiled_pickle(tmp_path / "whole.ckpt", tmp_path / "a.ckpt", random)
        use(tmp_path / "a.ckpt", random)

    assert outcomes(read, 20) == {"read", "refused"}


def test_checkpoints_of_wrong_parts(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    contents = checkpoint(path)
    use(path, Random(1))

    def read(random: Random) -> None:
        key = random.choice(["segmentation", "segmentation", "segmentation", "state_dict", "epoch"])
        torch.save({**contents, key: with_wrong_part(contents[key], random)}, path)
        use(path, random)

    assert outcomes(read, 30) == {"read", "refused"}


SMALL = [
    *(
        "backbone=timm",
        "backbone.name=test_resnet",  # of a few layers
        "head=lraspp",
        "data.size=[32,32]",
        "data.batch_size=2",
        "data.workers=0",
    ),
    *(
        "dataset.size=48",
        "dataset.train=4",
        "dataset.val=2",
        "dataset.test=2",
        "precision=32-true",
        "logger=none",
    ),
    *(
        "callbacks.grid.images=0",
        "callbacks.ema_decay=0.5",
        "callbacks.early_stopping.patience=3",
        "weights=none",
    ),
]


def interrupted(folder: Path) -> tuple[dict[str, Any], Callable[[dict[str, Any]], None]]:
    """The last checkpoint of a run, and what goes on from one."""
    config = composed(*SMALL, "trainer.max_epochs=2")
    data = open_dataset(**config["dataset"])
    train({**config, "trainer": {**config["trainer"], "max_epochs": 1}}, data, folder)
    path = folder / "checkpoints" / "last.ckpt"
    contents = torch.load(path, weights_only=True)

    def go_on(contents: dict[str, Any]) -> None:
        torch.save(contents, path)
        train({**config, "resume": str(folder)}, data, folder)

    return contents, go_on


@pytest.mark.usefixtures("no_figures")
def test_states_of_a_training_of_wrong_parts(tmp_path: Path) -> None:
    contents, go_on = interrupted(tmp_path)
    states = sorted(contents.keys() - {"segmentation", "state_dict"})

    def read(random: Random) -> None:
        key = random.choice(states)
        go_on({**contents, key: with_wrong_part(contents[key], random)})

    assert outcomes(read, 8) == {"read", "refused"}
