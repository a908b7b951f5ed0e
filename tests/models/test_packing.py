"""Convolutions with packed weights answer as they did before."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from made_models import assert_same, assert_seen, lively, made, pictures
from torch import nn

from segmentation.models.convolutions import atrous, packing
from segmentation.models.convolutions.base import computes_bf16
from segmentation.models.convolutions.packing import PackedConv2d, is_packed, pack
from segmentation.models.folding import folded
from segmentation.precision import autocast, reduced

CASES: dict[str, dict[str, Any]] = {
    "resnet18": {"output_stride": 8},
    "mobilenet_v3_small": {"output_stride": 8},
    # timm's own code looks at the weight, the size or the padding of a convolution before it calls it.
    "edgenext_xx_small": {"source": "timm", "output_stride": 32, "head": "fcn"},
    "davit_tiny": {"source": "timm", "output_stride": 32, "head": "fcn"},
}


WITHIN = {"32-true": 1e-4, "bf16-mixed": 0.03}
"""Of the largest logit: convolutions differ by a rounding each, of 2^-9 in bf16."""


@pytest.mark.parametrize("precision", WITHIN)
@pytest.mark.parametrize("backbone", CASES)
@pytest.mark.parametrize("avx512", [True, False])
def test_packed_weights_answer_for_any_shape(
    backbone: str, precision: str, avx512: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atrous, "_AVX512", avx512)
    if CASES[backbone].get("source") == "timm":
        pytest.importorskip("timm")
    if precision == "bf16-mixed" and not computes_bf16():
        pytest.skip("oneDNN does not compute in bf16 on this processor")
    model = made(backbone, **CASES[backbone])
    lively(model, pictures(4, 3, 64, 64))
    packed = deepcopy(model)
    pack(packed, reduced(precision) or torch.float32)
    packed = deepcopy(packed)
    assert not any(type(layer) is nn.Conv2d for layer in packed.modules())
    assert any(isinstance(layer, PackedConv2d) for layer in packed.modules())
    with torch.inference_mode(), autocast(precision, torch.device("cpu")):
        # They are kept for one shape, so others, and the first one again, must come out right as well.
        for shape in ((2, 3, 64, 64), (3, 3, 49, 67), (2, 3, 64, 64)):
            images = pictures(*shape).contiguous(memory_format=torch.channels_last)
            expected = model(images)
            assert_seen(expected)
            assert_same(packed(images), expected, within=WITHIN[precision])


@pytest.mark.parametrize("precision", WITHIN)
@pytest.mark.parametrize(
    ("backbone", "whole"), [("resnet18", True), ("mobilenet_v3_small", True), ("edgenext_xx_small", False)]
)
def test_autocast_has_nothing_to_do_where_all_weights_are_packed(
    backbone: str, whole: bool, precision: str
) -> None:
    if precision == "bf16-mixed" and not computes_bf16():
        pytest.skip("oneDNN does not compute in bf16 on this processor")
    if not whole:
        pytest.importorskip("timm")
    images = pictures(2, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    packed = folded(made(backbone, **CASES[backbone]).eval(), images)
    pack(packed, reduced(precision) or torch.float32)
    assert is_packed(packed) == whole
    if not whole:  # its linear layers, say, refuse what its convolutions give
        return
    seen: list[torch.dtype] = []
    for layer in packed.modules():
        if not list(layer.children()):
            layer.register_forward_hook(lambda _, __, found: seen.append(found.dtype))
    with torch.inference_mode():
        with autocast(precision, torch.device("cpu")):
            packed(images)
        mixed = seen.copy()
        seen.clear()
        packed(images)
    assert mixed
    assert seen == mixed


@pytest.mark.parametrize("images", [1, 3])
def test_a_map_of_one_cell_in_either_precision(images: int) -> None:
    plain, values_BCHW = nn.Conv2d(240, 64, 1), torch.randn(images, 240, 1, 1)
    for dtype, within in ((torch.float32, 1e-6), (torch.bfloat16, 2**-8)):
        with torch.inference_mode():
            found_BCHW = PackedConv2d(plain, dtype)(values_BCHW)
            expected_BCHW = plain(values_BCHW)
            alone_BCHW = torch.cat([PackedConv2d(plain, dtype)(one) for one in values_BCHW.split(1)])
        assert found_BCHW.dtype == dtype and found_BCHW.shape == expected_BCHW.shape
        assert torch.equal(found_BCHW, alone_BCHW)
        torch.testing.assert_close(found_BCHW.float(), expected_BCHW, atol=within, rtol=within)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_what_the_processor_cannot_compute_in_is_left_as_it_is(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "computes_bf16", lambda: False)
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    pack(model, dtype)
    assert type(model[0]) is nn.Conv2d


def test_the_bias_stays_float32() -> None:
    if not computes_bf16():
        pytest.skip("oneDNN does not compute in bf16 on this processor")
    plain = nn.Conv2d(1, 1, 1)
    nn.init.constant_(plain.weight, 1.0)
    nn.init.constant_(plain.bias, 1.0 + 2**-8)  # which bf16 would round down
    with torch.inference_mode():
        found = PackedConv2d(plain, torch.bfloat16)(torch.full((1, 1, 2, 2), 0.75 * 2**-8))
    assert found.unique().tolist() == [1.0078125]
