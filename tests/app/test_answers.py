"""What the app shows and hands out of a prediction, without a browser."""

import csv
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_predictors import NAMES, near, write_checkpoint
from PIL import Image

from segmentation.app import app
from segmentation.app.answers import (
    FILES,
    VIEWS,
    Model,
    answer,
    legend,
    objects,
    short_names,
    view,
    write_file,
)
from segmentation.cli import compose
from segmentation.config import AppSettings, read_app_settings
from segmentation.data.image_io import read_size
from segmentation.errors import UserError


def settings(**changed: Any) -> AppSettings:
    """The defaults of conf/app.yaml."""
    return read_app_settings({**compose("app", "checkpoint=none.ckpt"), **changed})


def picture(folder: Path, size: tuple[int, int] = (40, 60)) -> Path:
    """Green, with a red square: a class of `near` each."""
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[..., 1] = 255
    pixels[10:30, 10:30] = (255, 0, 0)
    path = folder / "red & green.png"
    Image.fromarray(pixels).save(path)
    return path


def test_shares_objects_and_latency(tmp_path: Path) -> None:
    said = answer(Model("near", near()), picture(tmp_path), settings())
    mask_HW = said.prediction.mask
    assert said.seconds > 0 and mask_HW.shape == (40, 60)
    share = (mask_HW == 1).mean()
    first, second = legend(said.prediction).split("</span>")[:2]
    assert f"{NAMES[1]} <b>{share:.1%}</b>" in first and NAMES[0] in second
    columns, rows = objects(said.prediction)
    assert columns[:2] == ["class", "pixels"]
    assert [row[:2] for row in rows] == [[NAMES[label], int((mask_HW == label).sum())] for label in (1, 0)]


def test_a_threshold_moves_the_foreground_of_a_binary_model_alone(tmp_path: Path) -> None:
    said = answer(Model("near", near(binary=True)), picture(tmp_path), settings())
    shares = [said.at(threshold).mask.mean() for threshold in (0, 0.2, 0.4, 0.6, 1.01)]
    assert shares == sorted(shares, reverse=True) and shares[0] == 1 and shares[-1] == 0
    np.testing.assert_array_equal(said.at(0.4).mask, said.prediction.mask)  # the model's own
    several = answer(Model("near", near()), picture(tmp_path), settings())
    assert several.at(0.9) is several.prediction


def test_views_are_small_and_files_whole(tmp_path: Path) -> None:
    said = answer(Model("near", near()), picture(tmp_path, (40, 2600)), settings())
    pictures = {kind: view(said.prediction, kind, 0.5, "roof") for kind in VIEWS}
    assert {each.shape for each in pictures.values()} == {(20, 1280, 3)}
    assert len({each.tobytes() for each in pictures.values()}) == len(VIEWS)
    np.testing.assert_array_equal(view(said.prediction, "overlay", 0, "roof"), pictures["picture"])
    paths = {kind: write_file(said.prediction, kind, tmp_path / "out", said.name, 0.5) for kind in FILES}
    assert np.array_equal(np.asarray(Image.open(paths["Mask"])), said.prediction.mask)
    assert read_size(paths["Overlay"]) == (40, 2600)
    shapes = json.loads(paths["labelme"].read_text())
    assert shapes["imagePath"] == "red & green.png" and shapes["imageWidth"] == 2600
    features = json.loads(paths["GeoJSON"].read_text())["features"]
    with paths["Objects"].open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert {each["properties"]["class"] for each in features} == {row["class"] for row in rows} <= {*NAMES}


@pytest.mark.parametrize("tile", [None, 32])
def test_what_is_too_large_or_damaged_is_said_without_the_folder(tmp_path: Path, tile: int | None) -> None:
    model = Model("near", near())
    with pytest.raises(UserError, match=r"^red & green.png has 60 x 40 pixels, more than max_pixels=0.001"):
        answer(model, picture(tmp_path), settings(max_pixels=0.001))
    (tmp_path / "a.jpg").write_text("no picture")
    with pytest.raises(UserError, match=r"^a.jpg ") as caught:
        answer(model, tmp_path / "a.jpg", settings(tile=tile))
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/best.ckpt"], ["best"]),
        (["runs/a/1/checkpoints/best.ckpt", "runs/b/1/checkpoints/best.ckpt"], ["a", "b"]),
        (["runs/a/1/checkpoints/best.ckpt", "runs/a/2/checkpoints/best.ckpt"], ["1", "2"]),
        (["x/one.ckpt", "x/one.onnx"], ["one.ckpt", "one.onnx"]),
        (["r/a/best.ckpt", "model.onnx"], ["a/best.ckpt", "model.onnx"]),
        (["/r/best.ckpt", "/r/old/best.ckpt"], ["r", "r/old"]),
        (["x/1/a/best.ckpt", "y/1/a/best.ckpt", "z/best.ckpt"], ["x/1/a", "y/1/a", "z"]),
    ],
)
def test_names_tell_checkpoints_apart(paths: list[str], names: list[str]) -> None:
    assert short_names([Path(path) for path in paths]) == names


def test_wrong_options_are_refused_before_anything_is_loaded() -> None:
    with pytest.raises(UserError, match="port"):
        settings(port=99999)
    with pytest.raises(UserError, match="threshold"):
        settings(threshold="much")


def test_a_missing_package_and_a_taken_port_are_said_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = str(write_checkpoint(tmp_path / "a.ckpt"))
    monkeypatch.setattr("os.environ", dict(os.environ))
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "segmentation.app.page", raising=False)
    with pytest.raises(UserError, match=r"needs gradio: pip install '\.\[app\]'"):
        app(settings(checkpoint=checkpoint, port=0))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UserError, match=f"port={port} cannot be listened at .*port=0"):
            app(settings(checkpoint=checkpoint, port=port))
