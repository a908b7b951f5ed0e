"""Convolutions that leave work out give what torch's give, forward and backward."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from segmentation.models import create_segmenter
from segmentation.models.backbones.depthwise import PhasedConv2d, can_phase
from segmentation.models.heads.layers import AtrousConv2d

SIZES = [(16, 16), (9, 14), (2, 5), (1, 1)]


def learn(layer: nn.Module, values_BCHW: Tensor) -> tuple[Tensor, ...]:
    """The answer, and the gradients of a function of it; in float64, where rounding is far below any mistake."""
    layer = deepcopy(layer).double()
    values_BCHW = values_BCHW.double().requires_grad_()
    answer_BCHW = layer(values_BCHW)
    grid = torch.arange(answer_BCHW.numel(), dtype=torch.float64).reshape(answer_BCHW.shape)
    (answer_BCHW * grid.sin()).sum().backward()
    gradients = [parameter.grad for parameter in layer.parameters()]
    assert values_BCHW.grad is not None
    return answer_BCHW.detach(), values_BCHW.grad, *(each for each in gradients if each is not None)


def check_equal(own: nn.Module, plain: nn.Module, values_BCHW: Tensor) -> None:
    for found, expected in zip(learn(own, values_BCHW), learn(plain, values_BCHW), strict=True):
        assert found.shape == expected.shape
        assert torch.allclose(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("kernel", "dilation"), [(3, 2), (5, 2), (5, 4)])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_phases_make_the_dilated_convolution(
    size: tuple[int, int], kernel: int, dilation: int, order: torch.memory_format
) -> None:
    padding = dilation * (kernel // 2)
    plain = nn.Conv2d(6, 6, kernel, padding=padding, dilation=dilation, groups=6)
    assert can_phase(plain)
    values_BCHW = torch.randn(2, 6, *size).to(memory_format=order)
    check_equal(PhasedConv2d(plain), plain, values_BCHW)
    with torch.no_grad():
        assert torch.equal(PhasedConv2d(plain)(values_BCHW), plain(values_BCHW))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 4, 3, padding=2, dilation=2),
        nn.Conv2d(4, 8, 3, padding=2, dilation=2, groups=4),
        nn.Conv2d(4, 4, 2, dilation=2, groups=4),
        nn.Conv2d(4, 4, 3, padding=1, groups=4),
    ],
    ids=["dense", "multiplied", "even", "not dilated"],
)
def test_other_convolutions_have_no_phases(layer: nn.Conv2d) -> None:
    assert not can_phase(layer)


def test_a_dilated_mobilenet_has_phases_and_starts_from_the_same_weights() -> None:
    def build(stride: int) -> nn.Module:
        torch.manual_seed(0)
        model: nn.Module = create_segmenter(
            backbone={"name": "mobilenet_v3_small"}, head={"name": "fcn"}, outputs=1, output_stride=stride
        )
        return model

    dilated, plain = build(8), build(32)
    assert any(isinstance(layer, PhasedConv2d) for layer in dilated.modules())
    assert not any(isinstance(layer, PhasedConv2d) for layer in plain.modules())
    for found, expected in zip(dilated.parameters(), plain.parameters(), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rate", [1, 4, 9, 14, 36])
def test_taps_beside_the_map_add_nothing(size: tuple[int, int], rate: int) -> None:
    own = AtrousConv2d(5, 3, 3, padding=rate, dilation=rate, bias=False)
    plain = nn.Conv2d(5, 3, 3, padding=rate, dilation=rate, bias=False)
    plain.load_state_dict(own.state_dict())
    check_equal(own, plain, torch.randn(2, 5, *size))
