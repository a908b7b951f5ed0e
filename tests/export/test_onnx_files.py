"""Exported files: the certificate, the file in place of the checkpoint, and files made to mislead."""

import functools
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import make_binary
from made_exports import LOOSE, PLAIN, QUICK, config, exported
from made_predictors import write_checkpoint
from torch import Tensor, nn

import segmentation
from segmentation import checkpoint, export
from segmentation.cli import compose
from segmentation.config import read_evaluation_settings, read_export_settings
from segmentation.data.augmentation import resize_image
from segmentation.errors import UserError
from segmentation.evaluation import evaluate
from segmentation.export import certificate
from segmentation.export.certificate import BOUNDS, OnnxFile, certify, faults
from segmentation.export.graph import export_network, export_part, whole_graph
from segmentation.export.preprocessing import Resize
from segmentation.inference.video import overlays
from segmentation.models.onnx_network import read_model

Change = Callable[[onnx.ModelProto], object]


@pytest.fixture(scope="module")
def classes_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes, resized to 64x64, labels alone."""
    return exported(write_checkpoint(tmp_path_factory.mktemp("classes") / "best.ckpt", network=PLAIN))


@pytest.fixture(scope="module")
def binary_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Binary, at the images' own size, NCHW, with probabilities and the scores of a data set."""
    folder = tmp_path_factory.mktemp("binary")
    data = make_binary(folder / "data")
    about = {"dataset": {"name": "binary", "root": str(data)}, "threshold": 0.4, "tile": 128}
    source = write_checkpoint(folder / "best.ckpt", binary=True, resize=False, **about)
    contents = checkpoint.read(source)
    contents["segmentation"]["classes"]["names"] = ["background", "foreground"]  # those of the data
    torch.save(contents, source)
    options = {"layout": "nchw", "outputs": ["labels", "probabilities"], "verify": str(data)}
    return exported(source, **options)


def picture(*shape: int) -> np.ndarray:
    return resize_image(np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8), shape[:2])


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize(
    ("given", "size"),
    [
        *(((48, 64), (64, 64)), ((97, 131), (64, 96)), ((480, 640), (512, 512)), ((1, 1), (8, 8))),
        *(((300, 40), (64, 64)), ((40, 300), (64, 96)), ((33, 47), (50, 90)), ((128, 100), (64, 64))),
        *(((300, 500), (128, 128)), ((256, 384), (64, 128)), ((301, 517), (128, 96)), ((64, 96), (64, 96))),
    ],
)
def test_the_resize_in_the_graph_is_that_of_opencv(
    given: tuple[int, int], size: tuple[int, int], channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Outside of an export torch would compile both branches.
    monkeypatch.setattr(torch, "cond", lambda condition, yes, no, given: (yes if condition else no)(*given))
    image_HWC = np.random.default_rng(0).integers(0, 256, (*given, channels), dtype=np.uint8)
    pixels_BCHW = torch.from_numpy(image_HWC).permute(2, 0, 1)[None].float()
    found_HWC = Resize(size)(pixels_BCHW)[0].permute(1, 2, 0).numpy()
    difference = np.abs(found_HWC - resize_image(image_HWC, size))
    averaged = given[0] > 2 * size[0] or given[1] > 2 * size[1]
    # OpenCV's float32 sums may round a mean between two levels to the other one.
    assert difference.max() <= averaged and (difference > 0).mean() < 1e-3


def test_the_certificate_of_a_file(classes_file: Path) -> None:
    content = json.loads(classes_file.with_suffix(".json").read_text())
    assert content["passed"] and content["path"] == "best.onnx"
    assert [(row["size"], row["batch"]) for row in content["agreement"]] == [
        *(([64, 64], 1), ([64, 64], 2), ([49, 43], 1), ([49, 43], 2), ([133, 71], 1), ([133, 71], 2)),
        *(([33, 45], 1), ([33, 45], 2)),
    ]
    assert all(0 < row["largest_difference"] <= 1e-3 for row in content["agreement"])
    assert content["file"]["bytes"] == classes_file.stat().st_size
    assert min(content["latency"]["file_ms"], content["latency"]["checkpoint_ms"]) > 0


def test_a_stranger_uses_the_file_without_us(classes_file: Path, binary_file: Path) -> None:
    for file, axes, outputs in (
        (classes_file, (0, 1, 2, 3), ["labels"]),
        (binary_file, (0, 3, 1, 2), ["labels", "probabilities"]),
    ):
        run = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        assert [output.name for output in run.get_outputs()] == outputs
        predictor = segmentation.load(file.with_suffix(".ckpt"), device="cpu", precision="32")
        for height, width in (
            (150, 170),
            (31, 20),
            (64, 64),
        ):  # two are larger than a tile or smaller than the model
            image_HWC = picture(height, width)
            found = run.run(None, {"image": image_HWC[None].transpose(axes)})
            expected = predictor.window_probabilities([image_HWC])
            assert found[0].dtype == np.uint8 and found[0].shape == (1, height, width)
            assert (found[0][0] == predictor.label(expected[0])).mean() > 0.999
            if len(found) > 1:
                np.testing.assert_allclose(found[1], expected, rtol=0, atol=1e-3)
        metadata = run.get_modelmeta().custom_metadata_map
        about = checkpoint.read(file.with_suffix(".ckpt"))["segmentation"]
        assert {key: json.loads(metadata[key]) for key in about} == about


@pytest.mark.parametrize("how", [{}, {"tta": ["flip", 1.25]}, {"tile": 64, "batch_size": 2}], ids=str)
def test_a_file_predicts_as_its_checkpoint(
    classes_file: Path, binary_file: Path, how: dict[str, Any]
) -> None:
    image_HWC = picture(150, 170)
    for file in (classes_file, binary_file):
        there = segmentation.load(file)
        before = segmentation.load(file.with_suffix(".ckpt"), device="cpu", precision="32")
        for name in ("classes", "size", "resize", "tile", "dataset", "threshold_source", "channels"):
            assert getattr(there.trained, name) == getattr(before.trained, name)
        found, expected = there.predict(image_HWC, **how), before.predict(image_HWC, **how)
        np.testing.assert_allclose(found.probabilities, expected.probabilities, rtol=0, atol=1e-3)
        assert (found.mask == expected.mask).mean() > 0.999


def test_frames_pickling_and_thresholds(binary_file: Path) -> None:
    predictor = pickle.loads(pickle.dumps(segmentation.load(binary_file, threshold=0.9)))
    image_HWC = picture(70, 90)
    assert (
        predictor.predict(image_HWC).mask == (predictor.predict(image_HWC).probabilities[..., 0] >= 0.9)
    ).all()
    frames = overlays(predictor)(np.stack([image_HWC, image_HWC]))
    assert (frames[0] == np.asarray(predictor.predict(image_HWC).overlay())).all()


def test_scores_before_and_after(binary_file: Path, tmp_path: Path) -> None:
    content = json.loads(binary_file.with_suffix(".json").read_text())["verify"]
    assert content["checkpoint"]["miou"] == pytest.approx(content["file"]["miou"], abs=1e-4)
    assert set(content["file"]["iou"]) == {"background", "foreground"}
    options = (f"checkpoint={binary_file}", f"output={tmp_path / 'report'}", "workers=0")
    plain = compose("evaluate", *options)
    assert evaluate(read_evaluation_settings(plain), tmp_path / "report") == pytest.approx(
        content["file"]["miou"], abs=1e-6
    )
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["environment"]["precision"] == "32-true" and report["model"]["parameters"] > 1e5


def test_a_file_outside_its_bounds_is_named_so(
    classes_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(export, "export_network", lambda *_: None)
    monkeypatch.setattr(export, "whole_graph", lambda *_: read_model(classes_file))
    monkeypatch.setattr(export, "BOUNDS", {"fp32": replace(LOOSE["fp32"], largest_difference=0.0)})
    monkeypatch.setattr(certificate, "_BUDGET", QUICK)
    target = tmp_path / "a.onnx"
    settings = read_export_settings(config(classes_file.with_suffix(".ckpt"), output=str(target)))
    with pytest.raises(SystemExit, match="1"):
        export.export(settings)
    assert {path.name for path in tmp_path.iterdir()} == {"a.failed.onnx", "a.json"}
    content = json.loads((tmp_path / "a.json").read_text())
    assert not content["passed"] and "a probability differs by" in content["faults"][0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": "a.pt"}, r"ends in \.onnx"),
        ({"outputs": ["logits"]}, "outputs=logits is unknown"),
        ({"checkpoint": "nowhere.ckpt"}, "There is no checkpoint nowhere.ckpt"),
        ({}, "exists already: give another output, or existing=overwrite"),
        (
            {"checkpoint": "{file}", "existing": "overwrite"},
            "is an exported model: this needs the checkpoint",
        ),
    ],
    ids=str,
)
def test_options_that_are_not_possible(classes_file: Path, options: dict[str, Any], message: str) -> None:
    filled = {
        key: value.format(file=classes_file) if isinstance(value, str) else value
        for key, value in options.items()
    }
    with pytest.raises(UserError, match=message):
        export.export(read_export_settings(config(classes_file.with_suffix(".ckpt"), **filled)))


@pytest.mark.parametrize("option", [{"device": "gpu"}, {"precision": "bf16"}, {"compile": True}], ids=str)
def test_what_onnx_runtime_does_not_do(classes_file: Path, option: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"best\.onnx"):
        segmentation.load(classes_file, **option)


def test_a_threshold_is_written_to_checkpoints_alone(binary_file: Path) -> None:
    plain = compose("evaluate", f"checkpoint={binary_file}", "split=val", "write_threshold=true", "workers=0")
    with pytest.raises(UserError, match="is an exported model: this needs the checkpoint"):
        evaluate(read_evaluation_settings(plain), binary_file.parent / "none")


class Windowed(nn.Module):
    """As Swin: windows are shifted only where the picture is larger than one."""

    channels = 3

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        shift = 3 if height > 40 and width > 40 else 0
        return image.float().roll((shift, shift), (2, 3)) / 20


def test_a_network_with_a_condition_on_the_size_is_found(
    classes_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificate, "_BUDGET", QUICK)
    source = classes_file.with_suffix(".ckpt")
    model: Any = Windowed()
    trained = replace(checkpoint.load(source), model=model, resize=False)
    settings = read_export_settings(config(source))
    content = whole_graph(export_network(trained), source, trained, settings)
    file = tmp_path / "a.onnx"
    file.write_bytes(content.SerializeToString())
    found = certify(file, OnnxFile(file, settings), trained, BOUNDS["fp32"])
    wrong = {tuple(row["size"]) for row in found["agreement"] if row["label_agreement"] < 0.99}
    assert wrong == {(33, 45)} and "Swin's windows" in list(faults(found))[-1]


class Undecided(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return pixels * 2 if pixels.sum().item() > 1 else pixels


def test_what_cannot_be_exported_is_named() -> None:
    with pytest.raises(UserError, match=r"The model cannot be exported to ONNX: .+"):
        export_part(Undecided(), {"pixels": torch.zeros(2, 3, 40, 50)}, ["logits"])


def _elsewhere(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../etc/passwd")


def _elsewhere_inside(model: onnx.ModelProto) -> None:
    tensor = onnx.TensorProto(data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    branch = onnx.helper.make_graph([onnx.helper.make_node("Constant", [], ["c"], value=tensor)], "g", [], [])
    model.graph.node.append(
        onnx.helper.make_node("If", ["image"], [], then_branch=branch, else_branch=branch)
    )


def _foreign(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "com.evil\x1b[31m"


def _function(model: onnx.ModelProto) -> None:
    model.functions.add(name="Conv", domain="")


def _without_network(model: onnx.ModelProto) -> None:
    del model.graph.value_info[:]


def _described(key: str, value: Any) -> Change:
    """Sets a part of the metadata, or of a section of it (`section.key`)."""

    def change(model: onnx.ModelProto) -> None:
        section, _, part = key.partition(".")
        entry = next(entry for entry in model.metadata_props if entry.key == section)
        content = json.loads(entry.value)
        entry.value = json.dumps({**content, part: value} if part else value)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_elsewhere, "refers to data in other files"),
        (_elsewhere_inside, "refers to data in other files"),
        (_foreign, r"operators that are not ONNX's own \(com\.evil\\x1b"),
        (_function, "functions of its own"),
        (_without_network, "it has no pixels and logits"),
        (lambda model: model.graph.ClearField("node"), "no valid ONNX model"),
        (lambda model: model.ClearField("metadata_props"), "does not describe its network"),
        (lambda model: model.metadata_props.add(key="a", value="{"), "was not written by export.py"),
        (lambda model: model.metadata_props.add(key="a", value="[" * 10**5), "was not written by export.py"),
        (lambda model: model.metadata_props.add(key="a", value=" " * 2**23), "describes itself with"),
        (_described("protocol", {"a": "b" * 20_000}), "20000 letters in one word"),
        (_described("threshold", 2), "not within 0 to 1"),
        (_described("threshold", [1]), "does not fit this version"),
        (_described("input.size", [10**9, 1]), "input size"),
        (_described("input.size", "big"), "does not fit this version"),
        (_described("classes.names", ["a", "b\x1b[31m", "c"]), "control characters"),
        (_described("classes.names", ["a", "b"]), "2 classes"),
        (_described("model.outputs", 4), "4 outputs"),
        (_described("model.channels", "3"), "does not describe its network"),
        (_described("model.backbone", "name"), "does not describe its network"),
        (_described("model.head", {"name": 5}), "does not describe its network"),
        (
            _described("training", functools.reduce(lambda inner, _: [inner], range(60), 1)),
            "within each other",
        ),
        (_described("classes", None), "does not fit this version"),
    ],
)
def test_a_file_made_to_mislead_is_refused(
    classes_file: Path, tmp_path: Path, change: Change, message: str
) -> None:
    model = onnx.load(str(classes_file))
    change(model)
    path = tmp_path / "made.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=message) as caught:
        segmentation.load(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_outputs_that_are_not_those_described(classes_file: Path, tmp_path: Path) -> None:
    model = onnx.load(str(classes_file))
    _described("model.channels", 4)(model)
    path = tmp_path / "made.onnx"
    path.write_bytes(model.SerializeToString())
    predictor = segmentation.load(path)
    with pytest.raises(UserError, match="ONNX Runtime cannot compute it"):
        predictor.predict(np.zeros((40, 50, 4), np.uint8))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no protobuf", b"\x08\xff"], ids=str)
def test_a_file_that_is_no_model(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "made.onnx"
    path.write_bytes(content)
    with pytest.raises(UserError, match="it was not loaded"):
        segmentation.load(path)
    with pytest.raises(UserError, match=r"There is no file .*absent\.onnx"):
        segmentation.load(tmp_path / "absent.onnx")


def test_a_file_and_a_checkpoint_are_one_model(classes_file: Path) -> None:
    members = [classes_file, classes_file.with_suffix(".ckpt")]
    together = segmentation.load(members, precision="32", disagreement=True)
    found = together.predict(picture(50, 70))
    alone = segmentation.load(classes_file).predict(picture(50, 70))
    np.testing.assert_allclose(found.probabilities, alone.probabilities, atol=1e-3)
    assert together.device.type == "cpu" and together.voters == 2
    with pytest.raises(UserError, match="is an exported model"):
        segmentation.load(members, ensemble="weights")
