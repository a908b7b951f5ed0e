"""Convolutions that leave work out give what torch's give, forward and backward."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from made_models import made
from torch import Tensor, nn
from torch.nn.functional import conv2d

from segmentation.models import segmenter
from segmentation.models.convolutions import atrous, filtering, quicken
from segmentation.models.convolutions.atrous import AtrousConv2d, find_tiling
from segmentation.models.convolutions.depthwise import DepthwiseConv2d
from segmentation.models.convolutions.filtering import Filtered, Tiling, convolve, transform
from segmentation.models.convolutions.packing import PackedConv2d
from segmentation.models.convolutions.taps import InsideTaps

SIZES = [(16, 16), (9, 14), (2, 5), (1, 1)]
WIDE = 96
"""Channels enough for tiles."""


@pytest.fixture(autouse=True)
def _as_without_avx512(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way is tested on every processor, also where another one pays."""
    monkeypatch.setattr(atrous, "_AVX512", False)
    monkeypatch.setattr(atrous, "_INSIDE", 0.75)


def learn(layer: Callable[[Tensor], Tensor], *leaves: Tensor) -> tuple[Tensor, ...]:
    """The answer for the first of `leaves`, and their gradients of a function of it."""
    for leaf in leaves:
        leaf.grad = None
    answer = layer(leaves[0])
    grid = torch.arange(answer.numel(), dtype=answer.dtype).reshape(answer.shape)
    (answer * grid.sin()).sum().backward()
    return answer.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)


def check_same(own: Callable[[Tensor], Tensor], plain: Callable[[Tensor], Tensor], *leaves: Tensor) -> None:
    """In float64, where rounding is far below any mistake."""
    found, expected = learn(own, *leaves), learn(plain, *leaves)
    assert len(found) == len(expected) == 1 + len(leaves)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-10)


def check_layer(plain: nn.Conv2d, substitute: type[nn.Module], values_BCHW: Tensor) -> None:
    plain = plain.double()
    own = substitute(plain)
    check_same(own, plain, values_BCHW.double().requires_grad_(), *plain.parameters())
    with torch.no_grad():
        found, expected = own(values_BCHW.double()), plain(values_BCHW.double())
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-10)


def way(answer: Tensor) -> list[str]:
    """The names of autograd's steps, the last one first, along the first input of each."""
    names, step = [], answer.grad_fn
    while step is not None:
        names.append(step.name().removesuffix("Backward0").removesuffix("Backward"))
        step = step.next_functions[0][0] if step.next_functions else None
    return names


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("size", [(16, 16), (9, 14), (7, 4), (1, 1)])
@pytest.mark.parametrize("rate", [1, 2, 5])
@pytest.mark.parametrize("side", [3, 4])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_tiles_make_the_convolution(
    size: tuple[int, int],
    rate: int,
    side: int,
    order: torch.memory_format,
    at_once: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tiling = Tiling.of(size, side, rate)
    monkeypatch.setattr(filtering, "_AT_ONCE", at_once * tiling.products * 4)
    values_BCHW = torch.randn(3, 4, *size).double().contiguous(memory_format=order).requires_grad_()
    weight_KCRR, bias = draw(5, 4, 3, 3), draw(5)
    check_same(
        lambda values: Filtered.apply(values, weight_KCRR, tiling),
        lambda values: conv2d(values, weight_KCRR, padding=rate, dilation=rate),
        values_BCHW,
        weight_KCRR,
    )
    with torch.no_grad():
        expected = conv2d(values_BCHW, weight_KCRR, bias, padding=rate, dilation=rate)
        found = convolve(values_BCHW, transform(weight_KCRR, tiling), tiling, bias)
        assert torch.allclose(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("side", [3, 4])
def test_tiles_round_by_a_few_of_float32s_steps(side: int) -> None:
    leaves = [torch.randn(1, 128, 24, 24).requires_grad_(), torch.randn(128, 128, 3, 3).requires_grad_()]
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    tiling = Tiling.of((24, 24), side, 1)
    right = learn(lambda values: conv2d(values, exact[1], padding=1), *exact)
    tiled = learn(lambda values: Filtered.apply(values, leaves[1], tiling), *leaves)
    for truth, found in zip(right, tiled, strict=True):
        # Not held against the plain convolution, which rounds by 2 to 8 of them, by the processor's kernels.
        assert 0 < (found - truth).std() < 24 * torch.finfo(torch.float32).eps * truth.std()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rate", [1, 4, 9, 14, 36])
def test_gradients_without_the_taps_beside_the_map(size: tuple[int, int], rate: int) -> None:
    weight_KCRR = draw(3, 5, 3, 3)
    check_same(
        lambda values: InsideTaps.apply(values, weight_KCRR, rate),
        lambda values: conv2d(values, weight_KCRR, padding=rate, dilation=rate),
        draw(2, 5, *size),
        weight_KCRR,
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rate", [1, 4, 9, 14, 36])
@pytest.mark.parametrize("bias", [True, False])
def test_a_narrow_convolution_takes_the_taps_inside(size: tuple[int, int], rate: int, bias: bool) -> None:
    plain = nn.Conv2d(5, 3, 3, padding=rate, dilation=rate, bias=bias)
    check_layer(plain, AtrousConv2d, torch.randn(2, 5, *size))


@pytest.mark.parametrize(
    ("batch", "size", "rate", "way"),
    [
        (1, (32, 32), 1, "Filtered"),
        (4, (16, 16), 1, "Filtered"),
        (2, (30, 29), 4, "Filtered"),
        (4, (16, 16), 6, "InsideTaps"),
        (4, (16, 16), 18, "InsideTaps"),
        (1, (16, 16), 1, "Convolution"),  # few tiles for weights that are transformed anew
        (9, (8, 8), 1, "Convolution"),  # few tiles a map
        (1, (16, 16), 6, "Convolution"),  # few cells
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_a_wide_convolution_goes_the_way_that_pays(
    batch: int, size: tuple[int, int], rate: int, way: str, bias: bool
) -> None:
    plain = nn.Conv2d(WIDE, WIDE + 2, 3, padding=rate, dilation=rate, bias=bias)
    values_BCHW = torch.randn(batch, WIDE, *size)
    check_layer(plain, AtrousConv2d, values_BCHW)
    steps = [AtrousConv2d(plain.float())(values_BCHW).grad_fn]
    steps += [source for source, _ in steps[0].next_functions if source is not None]
    assert any(way in step.name() for step in steps)


def test_tiles_are_for_full_precision_on_a_processor() -> None:
    layer = AtrousConv2d(nn.Conv2d(WIDE, WIDE, 3, padding=1))
    values_BCHW = torch.zeros(1, WIDE, 32, 32)
    assert find_tiling(layer, values_BCHW)
    assert not find_tiling(layer, values_BCHW.bfloat16())
    assert not find_tiling(layer, values_BCHW.to("meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not find_tiling(layer, values_BCHW)
        assert layer(values_BCHW).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("substitute", "options"),
    [
        *((AtrousConv2d, {"padding": rate, "dilation": rate}) for rate in (6, 12, 18)),
        *((DepthwiseConv2d, {"padding": rate, "dilation": rate, "groups": WIDE}) for rate in (1, 3, 12)),
        (DepthwiseConv2d, {"padding": 1, "stride": 2, "groups": WIDE}),
        (DepthwiseConv2d, {"padding": "same", "groups": WIDE}),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_they_learn_under_autocast_too(
    substitute: type[nn.Module], options: dict[str, Any], bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = nn.Conv2d(WIDE, WIDE, 3, bias=bias, **options)
    own, values_BCHW = substitute(plain), torch.randn(4, WIDE, 16, 16).requires_grad_()
    expected = learn(plain, values_BCHW, *plain.parameters())
    monkeypatch.setattr(atrous, "computes_bf16", lambda: True)
    with torch.autocast("cpu", torch.bfloat16):
        answer = own(values_BCHW)
        # The way that is quick in bf16, too: without taps beside the map, or in float32.
        if substitute is AtrousConv2d:
            assert "InsideTaps" in way(answer)
        else:
            assert way(answer)[0].startswith("ToCopy")
        found = learn(lambda values: own(values).float(), values_BCHW, *plain.parameters())
    assert answer.dtype == torch.bfloat16
    assert [one.dtype for one in found] == [torch.float32] * len(expected)
    for one, other in zip(found, expected, strict=True):
        assert 0 < (one - other).std() < 0.03 * other.std()


@pytest.mark.parametrize("rate", [1, 12])
@pytest.mark.parametrize("part", ["weight", "values"])
def test_what_is_frozen_gets_no_gradient(part: str, rate: int) -> None:
    layer = AtrousConv2d(nn.Conv2d(WIDE, WIDE, 3, padding=rate, dilation=rate, bias=False))
    values_BCHW = torch.randn(1, WIDE, 32, 32).requires_grad_(part == "weight")
    layer.weight.requires_grad_(part == "values")
    layer(values_BCHW).sum().backward()
    assert (layer.weight.grad is None) == (part == "weight")
    assert (values_BCHW.grad is None) == (part == "values")


@pytest.mark.parametrize("rate", [1, 12])
def test_it_is_used_as_any_convolution(rate: int) -> None:
    plain = nn.Conv2d(WIDE, WIDE, 3, padding=rate, dilation=rate, bias=False)
    own, values_BCHW = AtrousConv2d(plain), torch.randn(1, WIDE, 32, 32).requires_grad_()
    gradients = []
    for layer in (plain, own):
        # An activation in place, and autocast around the way back alone.
        total = torch.relu_(layer(values_BCHW)).sum()
        with torch.autocast("cpu", torch.bfloat16, enabled=layer is own):
            gradients.append(torch.autograd.grad(total, values_BCHW)[0])
    assert torch.allclose(*gradients, atol=1e-4)
    for nothing in (torch.zeros(0, WIDE, 32, 32), torch.zeros(0, WIDE, 32, 32).requires_grad_()):
        assert own(nothing).shape == nothing.shape


def test_large_maps_are_not_tiled_for_want_of_memory() -> None:
    layer = AtrousConv2d(nn.Conv2d(WIDE, WIDE, 3, padding=1))
    assert find_tiling(layer, torch.empty(1, WIDE, 256, 256))
    assert not find_tiling(layer, torch.empty(1, WIDE, 1024, 1024))


def test_an_image_is_answered_alike_in_any_batch_to_rounding() -> None:
    plain = nn.Conv2d(WIDE, WIDE, 3, padding=2, dilation=2)
    packed, values_BCHW = PackedConv2d(AtrousConv2d(plain), torch.float32), torch.randn(5, WIDE, 21, 34)
    with torch.inference_mode():
        together = packed(values_BCHW)
        for index in range(5):
            assert torch.allclose(packed(values_BCHW[index : index + 1])[0], together[index], atol=1e-5)
        assert torch.allclose(together, plain(values_BCHW), atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("kernel", "rate"), [(3, 2), (5, 2), (5, 4)])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_phases_make_the_dilated_convolution(
    size: tuple[int, int], kernel: int, rate: int, order: torch.memory_format
) -> None:
    plain = nn.Conv2d(6, 6, kernel, padding=rate * (kernel // 2), dilation=rate, groups=6)
    check_layer(plain, DepthwiseConv2d, torch.randn(2, 6, *size).contiguous(memory_format=order))


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "dilation": 2},
        {"kernel_size": 3, "padding": 2, "stride": 2, "dilation": 2},
        {"kernel_size": (3, 5), "padding": (2, 4), "dilation": 2},
        {"kernel_size": 2, "dilation": 2},
        {"kernel_size": 3, "padding": (2, 4), "dilation": (2, 4)},
        {"kernel_size": 3, "padding": "same", "dilation": 2},
        {"kernel_size": 1},
    ],
    ids=str,
)
def test_a_depthwise_convolution_of_any_form(options: dict[str, Any]) -> None:
    check_layer(nn.Conv2d(6, 6, groups=6, **options), DepthwiseConv2d, torch.randn(2, 6, 12, 13))


def test_shares_of_a_weights_gradient_are_added_up_in_float32() -> None:
    torch.manual_seed(0)
    leaves = [torch.randn(4, 8, 16, 16).bfloat16(), torch.randn(6, 8, 3, 3).bfloat16()]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    _, _, found = learn(lambda values: InsideTaps.apply(values, leaves[1], 6).float(), *leaves)
    _, _, expected = learn(lambda values: conv2d(values, exact[1], padding=6, dilation=6), *exact)
    rounding = torch.finfo(torch.bfloat16).eps * expected.std()
    assert 0 < (found - expected).std() < 0.43 * rounding  # 0.51 if added up in bf16


def test_what_learns_nothing_is_computed_in_bf16() -> None:
    layer = DepthwiseConv2d(nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=6))
    values_BCHW = torch.randn(2, 6, 12, 12)
    with torch.autocast("cpu", torch.bfloat16):
        learning = layer(values_BCHW)
        layer.requires_grad_(False)
        frozen = layer(values_BCHW)
        expected = conv2d(values_BCHW, layer.weight, layer.bias, padding=2, dilation=2, groups=6)
    assert learning.requires_grad and not frozen.requires_grad
    assert torch.equal(frozen, expected)


def test_with_avx512_there_are_no_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atrous, "_AVX512", True)
    assert not find_tiling(AtrousConv2d(nn.Conv2d(WIDE, WIDE, 3, padding=1)), torch.zeros(1, WIDE, 32, 32))


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        (nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4), DepthwiseConv2d),
        (nn.Conv2d(4, 4, 5, padding=4, dilation=2, groups=4), DepthwiseConv2d),
        (nn.Conv2d(4, 8, 3, padding=2, dilation=2), AtrousConv2d),
        (nn.Conv2d(WIDE, WIDE, 3, padding=1), AtrousConv2d),
        (nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d),
        (nn.Conv2d(WIDE, WIDE, 3, padding=1, stride=2), nn.Conv2d),
        (nn.Conv2d(WIDE, WIDE, 3, padding=1, padding_mode="reflect"), nn.Conv2d),
        (nn.Conv2d(WIDE, WIDE, 3, padding="same"), nn.Conv2d),
        (nn.Conv2d(WIDE, WIDE, 3), nn.Conv2d),
        (nn.Conv2d(WIDE, WIDE, (3, 1), padding=(1, 0)), nn.Conv2d),
        (nn.Conv2d(4, 4, 3, padding=(2, 4), dilation=(2, 4)), nn.Conv2d),
        (nn.Conv2d(4, 8, 3, padding=2, dilation=2, groups=4), nn.Conv2d),
        (nn.Conv2d(4, 4, 3, padding=1, stride=2, groups=4), DepthwiseConv2d),
        (nn.Conv2d(4, 4, 3, padding=1, groups=4, padding_mode="reflect"), nn.Conv2d),
        (nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d),
    ],
    ids=str,
)
def test_what_can_be_quicker_is_replaced(layer: nn.Conv2d, kind: type[nn.Module]) -> None:
    model = nn.Sequential(deepcopy(layer))
    quicken(model)
    assert type(model[0]) is kind
    assert model.state_dict().keys() == nn.Sequential(layer).state_dict().keys()
    watched = nn.Sequential(deepcopy(layer))
    watched[0].register_forward_hook(lambda *_: None)
    quicken(watched)
    assert type(watched[0]) is nn.Conv2d


def test_a_model_has_them_and_starts_from_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    own = made("mobilenet_v3_small", output_stride=8)
    monkeypatch.setattr(segmenter, "quicken", lambda model: None)
    torch.manual_seed(0)
    plain = made("mobilenet_v3_small", output_stride=8)
    for kind in (DepthwiseConv2d, AtrousConv2d):
        assert any(isinstance(layer, kind) for layer in own.modules())
        assert not any(isinstance(layer, kind) for layer in plain.modules())
    for found, expected in zip(own.parameters(), plain.parameters(), strict=True):
        assert torch.equal(found, expected)
