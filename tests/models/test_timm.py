"""Timm's models as backbones: its own features, and its names in files."""

import sys
from itertools import product
from pathlib import Path

import pytest
import timm
import torch
from made_models import assert_depends_on_image, assert_same, made, pictures, randomize_norms
from timm.layers import Conv2dSame, get_same_padding, padding
from torch import nn

from segmentation.errors import UserError
from segmentation.models import load_weights
from segmentation.models.backbones import Backbone, create_backbone
from segmentation.models.compile import free_sizes

NAMES = ("mobilenetv4_conv_small", "resnet10t", "convnext_atto", "regnety_002")


def create(name: str, output_stride: int | None = 32, in_channels: int = 3) -> Backbone:
    return create_backbone(
        {"source": "timm", "name": name}, output_stride=output_stride, in_channels=in_channels
    )


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("name", NAMES)
def test_features_are_timms_own(name: str, output_stride: int) -> None:
    torch.manual_seed(0)
    ours = create(name, output_stride)
    options = {} if output_stride == 32 else {"output_stride": output_stride}
    theirs = timm.create_model(name, features_only=True, **options)
    randomize_norms(theirs, torch.randn(2, 3, 64, 64))
    ours.load_state_dict({f"net.{key}": value for key, value in theirs.state_dict().items()})
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected, found = theirs(image)[-4:], ours.eval()(image)
    assert_depends_on_image(expected[-1])
    for stride, values in zip((4, 8, 16, 32), expected, strict=True):
        true = min(stride, output_stride)
        assert ours.strides[stride] == true
        assert found[stride].shape == (2, ours.channels[stride], 64 // true, 96 // true)
        assert_same(found[stride], values)


@pytest.mark.parametrize("name", NAMES)
def test_a_classifiers_file_fills_the_backbone(name: str, tmp_path: Path) -> None:
    classifier = timm.create_model(name)
    torch.save(classifier.state_dict(), tmp_path / "timm.pth")
    model = made(name, source="timm")
    report = load_weights(model, str(tmp_path / "timm.pth"))
    assert report.loaded == len(model.backbone.state_dict())
    given = classifier.state_dict()
    renamed = {model.backbone.key(key): value for key, value in given.items()}
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(value, renamed[key]), key


@pytest.mark.parametrize(("name", "even"), [("hrnet_w18_small", True), ("resnet10t", False)])
def test_models_that_halve_evenly_take_any_size(name: str, even: bool) -> None:
    torch.manual_seed(0)
    model = made(name, source="timm").eval()
    image = pictures(1, 3, 81, 130)
    beyond = (0, 30, 0, 15) if even else (0, 0, 0, 0)
    with torch.no_grad():
        found = model.backbone(image.float())
        whole = model.backbone(torch.nn.functional.pad(image.float(), beyond, mode="replicate"))
        assert model(image).shape == (1, 3, 81, 130)
    for nominal, stride in model.backbone.strides.items():
        height, width = -(-81 // stride), -(-130 // stride)
        assert found[nominal].shape[2:] == (height, width)
        assert torch.equal(found[nominal], whole[nominal][..., :height, :width])


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channels(channels: int) -> None:
    model = made("mobilenetv4_conv_small", source="timm", channels=channels).eval()
    assert model(pictures(1, channels, 64, 96)).shape == (1, 3, 64, 96)


def test_the_usual_stride_is_taken_where_it_can_be() -> None:
    assert create("resnet10t", None).strides[32] == 16
    assert create("densenet121", None).strides[32] == 32


@pytest.mark.parametrize(
    ("name", "output_stride", "message"),
    [
        ("mobilenetv4_conv_smal", 16, "Did you mean 'mobilenetv4_conv_small'?"),
        ("hf-hub:someone/model", 16, "is unknown"),
        ("local-dir:/tmp/model", 16, "is unknown"),
        ("densenet121", 16, "output_stride=16 is not possible with densenet121: it can do 32"),
        ("resnet10t", 12, "it can do 8, 16, 32"),
        ("resnet50.a1_in2k", None, "Did you mean 'resnet50.a1_in1k'?"),
        ("vit_tiny_patch16_224", None, "doesn't match model (224)"),
        ("swin_tiny_patch4_window7_224", None, "doesn't match model (224)"),
    ],
)
def test_what_is_not_possible_says_what_is(name: str, output_stride: int | None, message: str) -> None:
    with pytest.raises(UserError) as caught:
        create(name, output_stride)
    assert message in str(caught.value)


def test_without_timm_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"pip install '.\[timm\]'"):
        create("resnet10t")


def test_trained_weights_bring_their_mean_and_std(monkeypatch: pytest.MonkeyPatch) -> None:
    """timm's download is replaced, because there is no network."""
    trained = timm.create_model("resnet10t", features_only=True, in_chans=4)
    trained.pretrained_cfg = {**trained.pretrained_cfg, "mean": (0.5, 0.25, 0.75), "std": (0.1, 0.2, 0.4)}
    asked = {}
    model = made("resnet10t", source="timm", channels=4)

    def download(name: str, **options: object) -> torch.nn.Module:
        asked.update(options, name=name)
        return trained

    monkeypatch.setattr(timm, "create_model", download)
    report = load_weights(model, "imagenet")
    assert asked == {"name": "resnet10t", "features_only": True, "in_chans": 4, "pretrained": True}
    assert report.loaded == len(trained.state_dict())
    for key, value in trained.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[f"net.{key}"], value), key
    assert model.mean.flatten().tolist() == pytest.approx([127.5, 63.75, 191.25, 127.5])


def test_what_cannot_be_fetched_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made("resnet10t", source="timm")

    def fail(name: str, **options: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(UserError, match=r"no route to host.*HF_HOME"):
        load_weights(model, "imagenet")
    with pytest.raises(UserError, match=r"resnet50.a1_in1k"):
        load_weights(model, "IMAGENET1K_V1")


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(1, 2, 1), (3, 1, 1), (3, 2, 1), (5, 2, 2)])
def test_same_padding_is_exported_for_any_size(kernel: int, stride: int, dilation: int) -> None:
    torch.manual_seed(0)
    how = {"stride": stride, "dilation": dilation}
    net = nn.Sequential(*(Conv2dSame(1, 1, kernel, **how) for _ in range(4))).requires_grad_(False)
    free = torch.export.Dim.AUTO
    with free_sizes():
        program = torch.export.export(
            net, (torch.zeros(1, 1, 130, 170),), dynamic_shapes=({2: free, 3: free},)
        )
    for size in ((97, 161), (128, 166), (145, 99)):
        image = torch.randn(1, 1, *size)
        torch.testing.assert_close(program.module()(image), net(image))


def test_the_padding_of_an_export_is_timms_own() -> None:
    sizes = [(side, *how) for side in range(1, 40) for how in product((1, 2, 3, 5), (1, 2, 3, 4), (1, 2, 4))]
    expected = [get_same_padding(*size) for size in sizes]
    with free_sizes():
        assert [padding.get_same_padding(*size) for size in sizes] == expected
    assert padding.get_same_padding is get_same_padding
