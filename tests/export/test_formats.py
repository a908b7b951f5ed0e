"""Files for others than ONNX Runtime: torch's programs, plain weights, torchvision's networks, and QGIS."""

import ast
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import torchvision
from conftest import make_binary
from made_earth import SIDE, write_raster
from made_exports import PLAIN, exported
from made_predictors import NAMES, classes, write_checkpoint
from safetensors import safe_open
from safetensors.torch import load_file

import segmentation
from segmentation.checkpoint import load
from segmentation.data.augmentation import resize_image
from segmentation.data.geo import metres_per_pixel
from segmentation.errors import UserError
from segmentation.export.for_torch import constructor, torchvision_use, torchvision_weights
from segmentation.models import Decision, create_segmenter
from segmentation.models.pretrained import COCO

LARGE = {"backbone": {"name": "mobilenet_v3_large"}, "head": {"name": "deeplabv3", "rates": [12, 24, 36]}}
LITE = {"backbone": {"name": "mobilenet_v3_large", "taps": "first"}, "head": {"name": "lraspp"}}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes, resized to 64x64."""
    return write_checkpoint(tmp_path_factory.mktemp("formats") / "best.ckpt", network=PLAIN)


def on_data(folder: Path, network: dict[str, Any], **about: Any) -> tuple[Path, Path]:
    """A binary checkpoint, and the data by which its file can be verified."""
    data = make_binary(folder / "data")
    given = {"dataset": {"name": "binary", "root": str(data)}, **about}
    source = write_checkpoint(folder / "best.ckpt", network=network, binary=True, **given)
    contents = torch.load(source, weights_only=True)
    contents["segmentation"]["classes"]["names"] = ["background", "foreground"]  # those of the data
    torch.save(contents, source)
    return source, data


def check_scores(file: Path) -> None:
    """File and checkpoint have the same scores on the data."""
    verify = certificate(file)["verify"]
    assert verify["images"] > 0 and 0 < verify["checkpoint"]["miou"] < 1
    assert verify["file"]["miou"] == pytest.approx(verify["checkpoint"]["miou"], abs=1e-4)
    assert list(verify["file"]["iou"]) == ["background", "foreground"]


def picture(*shape: int) -> np.ndarray:
    return resize_image(np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8), shape[:2])


def certificate(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.with_suffix(".json").read_text())
    return content


def test_weights_with_their_description(source: Path) -> None:
    file = exported(source, format="state_dict")
    assert file.name == "best.state_dict.safetensors"
    with safe_open(file, "pt") as opened:
        about = json.loads(opened.metadata()["segmentation"])
    model = create_segmenter(**about["model"])
    model.load_state_dict(load_file(file), strict=True)
    assert about["classes"]["names"] == list(NAMES) and about["input"]["size"] == [64, 64]
    rows = certificate(file)["agreement"]
    assert len(rows) == 8 and all(row["largest_difference"] == 0 for row in rows)
    (file.parent / "config.json").write_text('{"architectures": ["Bert"]}')  # another's
    assert segmentation.load(file).trained.classes == load(source).classes


def test_a_program_takes_any_picture(tmp_path: Path) -> None:
    source, data = on_data(tmp_path, PLAIN, threshold=0.4)
    file = exported(source, format="torch_export", layout="nchw", verify=str(data))
    run = torch.export.load(file).module()
    predictor = segmentation.load(source, device="cpu", precision="32")
    image_HWC = picture(90, 50)
    labels_BHW, found_BKHW = run(torch.from_numpy(np.stack([image_HWC] * 3)).permute(0, 3, 1, 2).contiguous())
    assert labels_BHW.shape == (3, 90, 50) and labels_BHW.dtype == torch.uint8
    expected_BKHW = predictor.window_probabilities([image_HWC] * 3)
    np.testing.assert_allclose(found_BKHW.numpy(), expected_BKHW, rtol=0, atol=1e-3)
    assert certificate(file)["passed"] and certificate(file)["format"] == "torch_export"
    check_scores(file)


@pytest.mark.parametrize("network", [LARGE, LITE], ids=lambda network: network["head"]["name"])
def test_torchvision_loads_the_weights(network: dict[str, Any], tmp_path: Path) -> None:
    source, data = on_data(tmp_path, network)
    file = exported(source, format="torchvision", verify=str(data))
    check_scores(file)
    use = certificate(file)["use"]
    build = getattr(torchvision.models.segmentation, use["constructor"].rpartition(".")[2])
    model = build(**use["arguments"]).eval()
    model.load_state_dict(torch.load(file, weights_only=True), strict=True)
    pixels = torch.from_numpy(picture(64, 96)).permute(2, 0, 1)[None].float()
    mean, std = (torch.tensor(use["normalisation"][key])[:, None, None] for key in ("mean", "std"))
    with torch.no_grad():
        found = model((pixels / 255 - mean) / std)[use["output"]]
        expected = load(source).model.eval()(pixels)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("about", [{"threshold": 0.7}, {"temperature": 2.5, "threshold": 0.7}], ids=str)
def test_torchvision_gives_the_labels_by_what_the_certificate_says(
    about: dict[str, Any], source: Path
) -> None:
    trained = load(source)
    decision = Decision(True, about["threshold"], temperature=about.get("temperature", 1.0))
    with torch.device("meta"):
        model = create_segmenter(**LARGE, outputs=1, output_stride=16)
    model.to_empty(device="cpu")
    use = torchvision_use(replace(trained, model=model, classes=classes(binary=True), decision=decision))
    logits = torch.linspace(-5, 5, 101)
    found = (logits / use["temperature"]).sigmoid() >= use["threshold"]
    assert "sigmoid" in use["probabilities"]
    assert (found == decision.labels(logits[None, None, None])[0, 0].bool()).all()


@pytest.mark.parametrize(("head", "backbone"), list(COCO))
def test_the_names_of_every_network_of_torchvision(head: str, backbone: str, source: Path) -> None:
    options = {"lraspp": LITE["head"], "deeplabv3": LARGE["head"]}.get(head, {"name": head})
    own = {"name": backbone, **({"taps": "first"} if head == "lraspp" else {})}
    stride = COCO[head, backbone].output_stride
    trained = load(source)
    with torch.device("meta"):
        model = create_segmenter(backbone=own, head=options, outputs=3, output_stride=stride)
        name, arguments = constructor(replace(trained, model=model))
        other = torchvision.models.get_model(name, **arguments)
    expected = {key: values.shape for key, values in other.state_dict().items()}
    found = {
        key.replace("head.", "classifier.", 1) if key.startswith("head.") else key: values.shape
        for key, values in model.state_dict().items()
        if key not in ("mean", "std")
    }
    assert found == expected


def test_a_network_that_torchvision_has_not(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"torchvision has no network.*fcn\+test_resnet.*deeplabv3\+resnet50"):
        torchvision_weights(load(source))
    other = {**LARGE, "head": {"name": "deeplabv3"}}
    with pytest.raises(UserError, match=r"head\.rates=\[12, 24, 36\]"):
        torchvision_weights(load(write_checkpoint(tmp_path / "a.ckpt", network=other)))


class Plugin:
    """What Deepness does with a file, as its loader and its segmentation read."""

    def __init__(self, file: Path) -> None:
        self.session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        (given,) = self.session.get_inputs()
        (answer,) = self.session.get_outputs()
        self.name, self.shape = given.name, given.shape
        assert len(answer.shape) == 4 and answer.shape[2] == answer.shape[3] and answer.shape[0] == 1
        assert self.shape[2] == self.shape[3] and given.type == "tensor(float)"
        self.about = {
            key: json.loads(value) for key, value in self.session.get_modelmeta().custom_metadata_map.items()
        }
        names = sorted(self.about["class_names"].items(), key=lambda pair: int(pair[0]))
        assert [int(key) for key, _ in names] == list(range(len(names)))
        self.names = [name for _, name in names]
        self.classes = 2 if answer.shape[1] == 1 else answer.shape[1]
        assert str(self.about["model_type"]).capitalize() == "Segmentor"
        assert isinstance(ast.literal_eval(str(self.about["tile_size"])), int)

    def labels(self, tile_HWC: np.ndarray) -> np.ndarray:
        values = np.float32(tile_HWC[None, :, :, : self.shape[1]] * 1.0 / 255.0)
        mean, std = (self.about[f"standardization_{key}"] for key in ("mean", "std"))
        values = np.float32((values - mean) / std).transpose(0, 3, 1, 2)
        (result,) = self.session.run(None, {self.name: values})
        result[result < float(self.about["seg_thresh"])] = 0.0
        labels: np.ndarray = (
            (result != 0).astype(int)[0, 0] if result.shape[1] == 1 else result.argmax(axis=1)[0]
        )
        return labels


@pytest.mark.parametrize("binary", [False, True], ids=["classes", "binary"])
def test_qgis_answers_as_we_do(binary: bool, source: Path, tmp_path: Path) -> None:
    if binary:  # at the images' own size, by tiles
        about = {"threshold": 0.4, "tile": 96}
        source = write_checkpoint(tmp_path / "best.ckpt", binary=True, resize=False, network=PLAIN, **about)
    file = exported(source, format="qgis")
    plugin = Plugin(file)
    side = 96 if binary else 64
    assert plugin.shape == [1, 3, side, side] and plugin.about["tiles_size"] == side
    assert plugin.classes == len(plugin.names) and "resolution" not in plugin.about
    tile_HWC = picture(side, side)
    expected = segmentation.load(source, device="cpu", precision="32").predict(tile_HWC).mask
    assert (plugin.labels(tile_HWC) == expected).mean() > 0.999
    assert (segmentation.load(file).predict(tile_HWC).mask == expected).mean() > 0.999
    assert {tuple(row["size"]) for row in certificate(file)["agreement"]} == {(side, side)}


def test_the_resolution_is_that_of_the_training_rasters(tmp_path: Path) -> None:
    write_raster(tmp_path / "a.tif", np.zeros((3, 40, 50), np.uint8))
    options = {"name": "geotiff", "root": str(tmp_path), "images": "*.tif", "labels": "a.gpkg"}
    assert metres_per_pixel(options) == pytest.approx(SIDE, rel=1e-3)
    with pytest.raises(UserError, match="no address is opened"):
        metres_per_pixel({"name": "geotiff", "images": "https://a.b/c.tif", "labels": "d.gpkg"})


def test_several_checkpoints_become_the_mean_of_their_weights(source: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.ckpt"
    contents = torch.load(source, weights_only=True)
    state = {
        name: value * 1.5 if name.startswith("model.head") else value
        for name, value in contents["state_dict"].items()
    }
    torch.save({**contents, "state_dict": state}, other)
    both = [str(source), str(other)]
    with pytest.raises(UserError, match="has no name of its own: give output="):
        exported(source, checkpoint=both, format="state_dict")
    file = exported(source, checkpoint=both, format="state_dict", output=str(tmp_path / "mean.safetensors"))
    for name, value in load_file(file).items():
        before = contents["state_dict"][f"model.{name}"]
        mean = before.double() * 1.25 if name.startswith("head") else before
        torch.testing.assert_close(value, mean.to(value.dtype))
    assert load(file).training["weights"] == "the mean of 2 checkpoints"
    assert str(other) in certificate(file)["checkpoint"]


def test_a_place_that_cannot_be_written_is_said_before_the_work(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segmentation.export.for_torch.state_dict", lambda *_: pytest.fail("too late"))
    target = tmp_path / f"{'a' * 260}.safetensors"  # no file system takes it
    with pytest.raises(OSError, match="too long"):
        exported(source, format="state_dict", output=str(target))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "torchvision", "precision": "fp16"}, "precision is not for format=torchvision"),
        ({"format": "qgis", "layout": "nchw"}, "layout is not for format=qgis"),
        ({"format": "qgis", "outputs": ["probabilities"]}, "outputs are for format=onnx"),
        ({"format": "torch_export", "output": "a.onnx"}, r"ends in \.pt2"),
        ({"format": "tflite"}, "format"),
    ],
    ids=str,
)
def test_options_of_another_format(source: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        exported(source, **options)
