"""fp16 and INT8: what is lowered, what stays, what it costs, and by which pictures it is judged."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from conftest import make_binary
from made_exports import PLAIN, config, exported
from made_predictors import write_checkpoint
from PIL import Image

import segmentation
from segmentation import checkpoint, export
from segmentation.config import read_export_settings
from segmentation.data.augmentation import resize_image
from segmentation.errors import UserError
from segmentation.export.certificate import BOUNDS, faults, fitted
from segmentation.export.precision import Pictures


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes, resized to 64x64."""
    network = {**PLAIN, "head": {"name": "deeplabv3"}}
    return write_checkpoint(tmp_path_factory.mktemp("precision") / "best.ckpt", network=network)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for number in range(8):
        coarse = random.integers(0, 256, (5, 7, 3), dtype=np.uint8)
        Image.fromarray(resize_image(coarse, (60 + number, 90))).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def float_file(source: Path) -> Path:
    return exported(source)


@pytest.fixture(scope="module")
def int8_file(source: Path, pictures: Path) -> Path:
    """The head alone in INT8, but for its last layer."""
    return exported(source, precision="int8", calibration=str(pictures), keep_float=["backbone", "head.4"])


def weights(file: Path) -> dict[str, int]:
    """The number of bits of each convolution's weight."""
    model = onnx.load(str(file))
    made = {output: node for node in model.graph.node for output in node.output}
    tensors = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    bits = {onnx.TensorProto.FLOAT: 32, onnx.TensorProto.FLOAT16: 16, onnx.TensorProto.INT8: 8}
    found = {}
    for node in model.graph.node:
        if node.op_type == "Conv":
            name = node.input[1]
            name = made[name].input[0] if name in made else name
            found[name.split("_segmenter.")[1].split(".weight")[0]] = bits[tensors[name]]
    return found


def test_the_head_has_whole_numbers_and_what_was_kept_does_not(int8_file: Path) -> None:
    bits = weights(int8_file)
    assert {name for name, number in bits.items() if number == 8} == {
        name for name in bits if name.startswith("head.") and name != "head.4"
    }
    certificate = json.loads(int8_file.with_suffix(".json").read_text())
    assert int8_file.name == "best.int8.onnx" and certificate["precision"] == "int8"
    assert certificate["pictures"] == "of calibration" and "head.4" in certificate["kept_in_float"]
    costs = certificate["damage"]
    assert [cost["mean_difference"] for cost in costs] == sorted(
        (cost["mean_difference"] for cost in costs), reverse=True
    )
    assert costs[0]["mean_difference"] > 0
    assert "head.1" in {cost["layer"] for cost in costs} and not any(
        cost["layer"].startswith("backbone") or cost["layer"] == "head.4" for cost in costs
    )


def test_fp16_is_half_as_large_and_its_normalisation_is_exact(source: Path, float_file: Path) -> None:
    file = exported(source, precision="fp16", keep_float="head.4")
    bits = weights(file)
    assert bits.pop("head.4") == 32 and set(bits.values()) == {16}
    assert file.stat().st_size < 0.55 * float_file.stat().st_size
    mean = next(tensor for tensor in onnx.load(str(file)).graph.initializer if tensor.name.endswith(".mean"))
    assert mean.data_type == onnx.TensorProto.FLOAT


def test_they_predict_as_the_float_file_does(float_file: Path, int8_file: Path) -> None:
    image_HWC = resize_image(np.random.default_rng(1).integers(0, 256, (5, 7, 3), dtype=np.uint8), (90, 110))
    expected, found = (segmentation.load(file) for file in (float_file, int8_file))
    difference = found.predict(image_HWC).probabilities - expected.predict(image_HWC).probabilities
    assert 0 < np.abs(difference).mean() < 0.2  # the untrained network amplifies
    # Scales and zero points are not counted as weights.
    assert found.trained.model.weight_count == expected.trained.model.weight_count


def _foreign(model: onnx.ModelProto) -> None:
    node = next(node for node in model.graph.node if node.op_type == "QuantizeLinear")
    node.domain = "com.microsoft"


def _absent_scale(model: onnx.ModelProto) -> None:
    node = next(node for node in model.graph.node if node.op_type == "DequantizeLinear")
    node.input[1] = "nowhere"


def _other_type(model: onnx.ModelProto) -> None:
    node = next(node for node in model.graph.node if node.op_type == "DequantizeLinear")
    for tensor in model.graph.initializer:
        if tensor.name == node.input[1]:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.array([1, 2, 3], np.int64), tensor.name))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_foreign, r"operators that are not ONNX's own \(com\.microsoft\)"),
        (_absent_scale, "no valid ONNX model"),
        (_other_type, "it was not loaded|ONNX Runtime cannot use it"),
    ],
)
def test_a_quantised_file_made_to_mislead_is_refused(
    int8_file: Path, tmp_path: Path, change: Callable[[onnx.ModelProto], None], message: str
) -> None:
    model = onnx.load(str(int8_file))
    change(model)
    path = tmp_path / "made.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=message) as caught:
        segmentation.load(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_calibration_takes_the_train_split_of_a_data_set(tmp_path: Path) -> None:
    data = make_binary(tmp_path / "data")
    path = write_checkpoint(tmp_path / "a.ckpt", binary=True, dataset={"name": "binary", "root": "moved"})
    contents = checkpoint.read(path)
    contents["segmentation"]["classes"]["names"] = ["background", "foreground"]
    torch.save(contents, path)
    settings = read_export_settings(config(path, precision="int8", calibration=str(data)))
    found = export._pictures(path, checkpoint.load(path), settings)
    assert 0 < found.count < 12 and found.read(0).shape == (48, 64, 3)  # masks would be twelve more


@pytest.mark.parametrize("below", ["data", "."])
def test_calibration_takes_no_masks_of_a_data_set_that_cannot_be_used(
    below: str, source: Path, tmp_path: Path
) -> None:
    make_binary(tmp_path / "data")
    settings = read_export_settings(config(source, precision="int8", calibration=str(tmp_path / below)))
    with pytest.raises(UserError, match="cannot be read as the data set that it is"):
        export._pictures(source, checkpoint.load(source), settings)


def test_calibration_leaves_videos_out(source: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (9, 7)).save(tmp_path / name)
    (tmp_path / "aa.mp4").write_bytes(b"frames")
    settings = read_export_settings(config(source, precision="int8", calibration=str(tmp_path)))
    found = export._pictures(source, checkpoint.load(source), settings)
    assert found.count == 2 and [found.read(number).shape for number in range(2)] == [(7, 9, 3)] * 2


def test_some_pictures_are_kept_to_judge() -> None:
    calibrating, judging = Pictures(lambda number: np.full((2, 2, 3), number, np.uint8), 250).split()
    seen = {int(picture[0, 0, 0]) for picture in calibrating}
    kept = {int(picture[0, 0, 0]) for picture in judging}
    assert 98 <= len(seen) <= 100 and 12 <= len(kept) <= 14 and not seen & kept
    with pytest.raises(UserError, match="calibration has 3 pictures"):
        Pictures(lambda number: np.zeros((2, 2, 3), np.uint8), 3).split()


def test_a_picture_is_cut_or_resized() -> None:
    picture_HWC = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    assert (fitted(picture_HWC, (2, 4), resize=False) == picture_HWC[2:4, 2:6]).all()
    assert (
        fitted(picture_HWC, (2, 4), resize=True).shape == fitted(picture_HWC[:1], (2, 4), resize=False).shape
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int8"}, "needs pictures to measure"),
        ({"precision": "int8", "calibration": "nowhere"}, "There is no folder calibration=nowhere"),
        ({"precision": "int8", "calibration": "{empty}"}, "has no pictures and is no data set"),
        ({"calibration": "{empty}"}, "calibration is for precision=int8"),
        ({"keep_float": ["head"]}, "keep_float is for precision=fp16 and int8"),
        (
            {"precision": "fp16", "keep_float": ["haed"]},
            r"keep_float=haed is no part.* Did you mean 'head'\?",
        ),
        ({"precision": "fp16", "keep_float": ["backbone", "head"]}, "keeps every layer"),
        ({"precision": "bf16"}, "precision"),
    ],
    ids=str,
)
def test_options_that_do_not_fit(source: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    filled = {
        key: value.format(empty=tmp_path) if isinstance(value, str) else value
        for key, value in options.items()
    }
    with pytest.raises(UserError, match=message):
        exported(source, output=str(tmp_path / "a.onnx"), **filled)


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        ({"largest_difference": 1.0}, []),
        ({"label_agreement": 0.9}, ["90.00% of the labels are the same at 64x48, less than 95.00%"]),
        ({"label_agreement": float("nan")}, ["nan% of the labels are the same at 64x48, less than 95.00%"]),
        ({"miou": 0.5}, ["mIoU falls from 0.6000 to 0.5000"]),
        ({"iou": 0.4}, ["the IoU of roof falls from 0.6000 to 0.4000"]),
    ],
    ids=str,
)
def test_what_int8_may_lose(found: dict[str, float], wrong: list[str]) -> None:
    row = {
        "size": [48, 64],
        "largest_difference": 0.9,
        "label_agreement": 0.97,
        "miou": 0.6,
        "iou": 0.6,
        **found,
    }
    certificate = {
        "bounds": vars(BOUNDS["int8"]),
        "agreement": [row],
        "verify": {
            "checkpoint": {"miou": 0.6, "iou": {"roof": 0.6}},
            "file": {"miou": row["miou"], "iou": {"roof": row["iou"]}},
        },
    }
    assert list(faults(certificate)) == wrong


def test_no_number_is_no_small_difference() -> None:
    rows = [
        {"size": [48, 64], "largest_difference": value, "label_agreement": 1.0}
        for value in (1e-6, float("nan"))
    ]
    assert "differs by nan at 64x48" in next(faults({"bounds": vars(BOUNDS["fp32"]), "agreement": rows}))
