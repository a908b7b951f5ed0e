"""Published weights: from the cache, by a download that is checked, and without a network."""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from made_models import made
from torch import Tensor
from torchvision.models import Weights, get_model, get_model_weights
from torchvision.transforms._presets import SemanticSegmentation

from segmentation.errors import UserError
from segmentation.models import Segmenter, load_weights, pretrained_rates
from segmentation.models.weights import COCO, CocoWeights

FETCHED = get_model_weights("resnet18").DEFAULT


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where torch.hub keeps its files, empty, and no network behind it."""

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
    model = made("mobilenetv3_small")
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
    torch.save(theirs.state_dict(), cache / name_of(COCO["mobilenetv3_large"].weights.url))
    model = made("mobilenetv3_large", outputs=outputs, aux=True)
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
    theirs = made("mobilenetv3_small", aux=True)
    torch.save(theirs.state_dict(), cache / "all.pth")
    report = load_weights(made("mobilenetv3_small"), str(cache / "all.pth"))
    assert set(report.skipped) == set(kept(theirs, "aux_head."))
    assert set(report.skipped.values()) == {"not in this model"}


@pytest.mark.parametrize("weights", ["imagenet", "coco"])
def test_without_a_network_the_error_says_what_to_put_where(cache: Path, weights: str) -> None:
    published = get_model_weights("mobilenet_v3_large").DEFAULT if weights == "imagenet" else None
    url = published.url if published else COCO["mobilenetv3_large"].weights.url
    with pytest.raises(UserError) as caught:
        load_weights(made("mobilenetv3_large"), weights)
    for part in (url, str(cache / name_of(url)), "weights=none", "no route to host"):
        assert part in str(caught.value)


@pytest.mark.parametrize("backbone", ["resnet18", "resnet34", "mobilenetv3_small"])
def test_coco_is_refused_where_there_is_none(backbone: str) -> None:
    refused: list[Callable[[], object]] = [
        partial(load_weights, made(backbone), "coco"),
        partial(pretrained_rates, backbone, "coco", 16),
    ]
    for call in refused:
        with pytest.raises(UserError, match="resnet50, resnet101, mobilenetv3_large"):
            call()


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"PK\x03\x04 cut off"])
def test_a_damaged_file_in_the_cache_is_named(cache: Path, content: bytes) -> None:
    path = cache / name_of(FETCHED.url)
    path.write_bytes(content)
    with pytest.raises(UserError, match="is damaged: delete it") as caught:
        load_weights(made("resnet18"), "imagenet")
    assert str(path) in str(caught.value)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Weights:
    """Weights as torchvision publishes them, their hash in the name, on a server that is a folder."""
    monkeypatch.undo()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    path = tmp_path / "weights.pth"
    torch.save(made("mobilenetv3_small").state_dict(), path)
    path = path.rename(tmp_path / f"weights-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth")
    transforms = partial(SemanticSegmentation, resize_size=520, mean=(0.5, 0.25, 0.75), std=(0.1, 0.2, 0.4))
    weights = Weights(path.as_uri(), transforms, {})
    monkeypatch.setitem(COCO, "mobilenetv3_small", CocoWeights(weights, 16))
    return weights


def test_a_download_is_kept_and_brings_its_mean_and_std(published: Weights, cache: Path) -> None:
    model = made("mobilenetv3_small")
    load_weights(model, "coco")
    assert (cache / name_of(published.url)).is_file()
    assert model.mean.flatten().tolist() == pytest.approx([127.5, 63.75, 191.25])
    assert model.std.flatten().tolist() == pytest.approx([25.5, 51, 102])


def test_a_download_with_another_hash_is_refused(published: Weights, cache: Path, tmp_path: Path) -> None:
    with (tmp_path / name_of(published.url)).open("ab") as file:
        file.write(b"tampered")
    model = made("mobilenetv3_small")
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
        ("resnet101", 32, [3, 6, 9]),
        ("mobilenetv3_large", 8, [24, 48, 72]),
        ("mobilenetv3_large", 16, [12, 24, 36]),
        ("mobilenetv3_large", 32, [6, 12, 18]),
    ],
)
def test_cocos_rates_reach_as_far_at_every_stride(
    backbone: str, output_stride: int, rates: list[int]
) -> None:
    assert pretrained_rates(backbone, "coco", output_stride) == rates
    assert pretrained_rates(backbone, "imagenet", output_stride) is None


@pytest.mark.parametrize("output_stride", [0, -8, 12])
def test_a_wrong_stride_is_left_to_the_backbone(output_stride: int) -> None:
    rates = pretrained_rates("resnet50", "coco", output_stride)
    with pytest.raises(UserError, match=f"output_stride={output_stride}"):
        made("resnet50", output_stride=output_stride, rates=rates)
