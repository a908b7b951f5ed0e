"""Models prepared for inference answer as they did before."""

from typing import Any

import pytest
import torch
from made_models import assert_same, assert_seen, lively, made, pictures
from torch import Tensor, nn

from segmentation.models import HEADS
from segmentation.models.folding import folded

CASES: dict[str, dict[str, Any]] = {
    "resnet18": {},
    "resnext50_32x4d": {"output_stride": 8},
    "mobilenet_v3_small": {"output_stride": 8},
    "efficientnet_b0": {"head": "deeplabv3plus"},
    "regnet_y_400mf": {"head": "lraspp"},
    "shufflenet_v2_x0_5": {"head": "fpn"},
    "densenet121": {"head": "fcn"},  # its batch norms come before the convolutions, but for some
    "mnasnet0_5": {"channels": 1},
    "vgg16": {"head": "fcn"},
    "convnext_tiny": {},  # no batch norms but the head's
    "resnet18.a1_in1k": {"source": "timm"},
}


@pytest.mark.parametrize("backbone", CASES)
def test_the_answer_stays(backbone: str) -> None:
    """In float64: from layer to layer an untrained network multiplies every rounding."""
    if CASES[backbone].get("source") == "timm":
        pytest.importorskip("timm")
    model, channels = made(backbone, **CASES[backbone]).double(), CASES[backbone].get("channels", 3)
    lively(model, pictures(4, channels, 64, 64))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    quick = folded(model, pictures(1, channels, 64, 64))
    assert norms(quick) < norms(model)
    with torch.inference_mode():
        images = pictures(2, channels, 49, 67)
        expected = model(images)
        assert_seen(expected)
        assert_same(quick(images), expected, within=1e-6)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def norms(model: nn.Module) -> int:
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())


@pytest.mark.parametrize("head", HEADS)
def test_no_batch_norm_is_left_where_each_follows_a_convolution(head: str) -> None:
    model = made("mobilenet_v3_small", head=head)
    lively(model, pictures(4, 3, 64, 64))
    assert norms(model) > 30
    assert norms(folded(model, pictures(1, 3, 64, 64))) == 0


def test_weights_that_are_not_changed_are_shared() -> None:
    model = made("resnet18")
    lively(model, pictures(4, 3, 64, 64))
    quick = folded(model, pictures(1, 3, 64, 64))
    shared = {id(weight) for weight in model.parameters()} & {id(weight) for weight in quick.parameters()}
    last = model.head[-1]
    assert isinstance(last, nn.Conv2d)
    assert shared == {id(last.weight), id(last.bias)}


class Twice(nn.Module):
    """The values of one convolution go to a batch norm and past it; another has two batch norms in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.other, self.first, self.second = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        values_BCHW = self.one(image_BCHW.float() / 255)
        values_BCHW = self.norm(values_BCHW) + values_BCHW
        answer: Tensor = self.second(self.other(self.first(self.other(values_BCHW))))
        return answer


def test_a_convolution_that_serves_others_too_keeps_its_batch_norm() -> None:
    model = Twice()
    lively(model, pictures(4, 3, 64, 64))
    assert norms(folded(model, pictures(1, 3, 64, 64))) == 3


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
def test_a_model_made_and_used_without_gradients(guard: Any) -> None:
    with guard():
        model = made("resnet18").eval()
        images = pictures(2, 3, 64, 64)
        assert_same(folded(model, images)(images), model(images))


def test_the_example_is_left_as_it_is() -> None:
    example = torch.rand(1, 3, 64, 64)
    folded(made("resnet18").eval(), example)
    assert not example.requires_grad
