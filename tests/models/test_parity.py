"""Parity: with the same weights our models give torchvision's outputs, and have as many parameters."""

from pathlib import Path

import pytest
import torch
from made_models import assert_same, assert_seen, lively, made, pictures
from torch import nn
from torchvision.models import get_model, get_model_weights

from segmentation.models import load_weights, pretrained_rates
from segmentation.models.backbone import BACKBONES

PEERS = {
    "resnet50": ("deeplabv3_resnet50", 8),
    "resnet101": ("deeplabv3_resnet101", 8),
    "mobilenetv3_large": ("deeplabv3_mobilenet_v3_large", 16),
}


@pytest.mark.parametrize("backbone", PEERS)
def test_outputs_are_torchvisions(backbone: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    name, output_stride = PEERS[backbone]
    resnet = backbone.startswith("resnet")
    theirs = get_model(name, weights=None, weights_backbone=None, num_classes=3, aux_loss=resnet)
    lively(theirs, torch.randn(2, 3, 64, 64))
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    rates = pretrained_rates(backbone, "coco", output_stride)
    ours = made(backbone, output_stride=output_stride, aux=resnet, rates=rates).eval()
    report = load_weights(ours, str(tmp_path / "theirs.pth"))
    assert report.loaded == len(theirs.state_dict())
    assert not report.skipped
    image = pictures(2, 3, 65, 97)
    with torch.no_grad():
        expected = theirs((image.float() - ours.mean) / ours.std)
        logits, auxiliary = ours.with_auxiliary(image)
    assert_seen(expected["out"])
    assert_same(logits, expected["out"])
    if resnet:
        assert auxiliary is not None
        assert_same(auxiliary, expected["aux"])


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("backbone", "trunk", "whole"),
    [
        ("mobilenetv3_small", 927_008, 6_129_717),
        ("resnet18", 11_176_512, 15_904_085),
        ("resnet50", 23_508_032, 39_638_869),
        ("mobilenetv3_large", 2_971_952, 11_025_477),
    ],
)
def test_parameter_counts(backbone: str, trunk: int, whole: int) -> None:
    name = BACKBONES[backbone].torchvision
    with torch.device("meta"):
        classifier = get_model(name, weights=None)
        model = made(backbone, outputs=21)
    published = get_model_weights(name).DEFAULT.meta["num_params"]
    top = classifier.fc if hasattr(classifier, "fc") else classifier.classifier
    assert count(model.backbone) == trunk == published - count(top)
    assert count(model) == whole


def test_the_whole_models_count_is_torchvisions() -> None:
    published = get_model_weights("deeplabv3_resnet50").DEFAULT.meta["num_params"]
    with torch.device("meta"):
        model = made("resnet50", output_stride=8, outputs=21, aux=True)
    assert count(model) == published == 42_004_074
