"""Parity: with the same weights our models give torchvision's outputs, and have as many parameters."""

from pathlib import Path

import pytest
import torch
from made_models import assert_depends_on_image, assert_same, made, pictures, randomize_norms
from torch import nn
from torchvision.models import get_model, get_model_weights

from segmentation.models import create_segmenter, load_weights, pretrained_options

PEERS = {
    ("deeplabv3", "resnet50"): 8,
    ("deeplabv3", "resnet101"): 8,
    ("deeplabv3", "mobilenet_v3_large"): 16,
    ("fcn", "resnet50"): 8,
    ("lraspp", "mobilenet_v3_large"): 16,
}


@pytest.mark.parametrize(("head", "backbone"), PEERS)
def test_outputs_are_torchvisions(head: str, backbone: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    output_stride = PEERS[head, backbone]
    resnet = backbone.startswith("resnet")
    auxiliary = {"aux_loss": True} if resnet else {}
    theirs = get_model(f"{head}_{backbone}", weights=None, weights_backbone=None, num_classes=3, **auxiliary)
    randomize_norms(theirs, torch.randn(2, 3, 64, 64))
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    given = {"source": "torchvision", "name": backbone}, {"name": head}
    # The file says as much as the word: it is one of torchvision's whole models.
    sections = pretrained_options(*given, str(tmp_path / "theirs.pth"), output_stride)
    assert sections == pretrained_options(*given, "coco", output_stride)
    ours = create_segmenter(
        backbone=sections[0], head=sections[1], outputs=3, output_stride=output_stride, aux=resnet
    ).eval()
    report = load_weights(ours, str(tmp_path / "theirs.pth"))
    assert report.loaded == len(theirs.state_dict())
    assert not report.skipped
    image = pictures(2, 3, 65, 97)
    with torch.no_grad():
        expected = theirs((image.float() - ours.mean) / ours.std)
        logits, second = ours.with_auxiliary(image)
    assert_depends_on_image(expected["out"])
    assert_same(logits, expected["out"])
    if resnet:
        assert second is not None
        assert_same(second, expected["aux"])


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("backbone", "trunk", "whole"),
    [
        ("mobilenet_v3_small", 927_008, 6_129_717),
        ("resnet18", 11_176_512, 15_904_085),
        ("resnet50", 23_508_032, 39_638_869),
        ("mobilenet_v3_large", 2_971_952, 11_025_477),
    ],
)
def test_parameter_counts(backbone: str, trunk: int, whole: int) -> None:
    model = made(backbone, outputs=21)
    assert count(model.backbone) == trunk
    assert count(model) == whole


@pytest.mark.parametrize(
    ("name", "backbone", "head", "aux"),
    [
        ("deeplabv3_resnet50", "resnet50", "deeplabv3", True),
        ("fcn_resnet50", "resnet50", "fcn", True),
        ("lraspp_mobilenet_v3_large", "mobilenet_v3_large", "lraspp", False),
    ],
)
def test_the_whole_models_count_is_torchvisions(name: str, backbone: str, head: str, aux: bool) -> None:
    published = get_model_weights(name).DEFAULT.meta["num_params"]
    found = count(made(backbone, head=head, output_stride=16, outputs=21, aux=aux))
    assert found == published
