"""Convolutions with packed weights answer as they did before."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from made_models import assert_same, assert_seen, lively, made, pictures
from torch import nn

from segmentation.models.convolutions import atrous
from segmentation.models.convolutions.packing import PackedConv2d, pack
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
    if precision == "bf16-mixed" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
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


def test_what_the_processor_cannot_compute_in_is_left_as_it_is() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    pack(model, torch.float16)
    assert type(model[0]) is nn.Conv2d
