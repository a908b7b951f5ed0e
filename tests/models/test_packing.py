"""Convolutions with packed weights answer as they did before."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from made_models import assert_same, assert_seen, lively, made, pictures
from torch import nn

from segmentation.models.convolutions.packing import PackedConv2d, pack

CASES: dict[str, dict[str, Any]] = {
    "resnet18": {"output_stride": 8},
    "mobilenet_v3_small": {"output_stride": 8},
    # timm's own code looks at the weight, the size or the padding of a convolution before it calls it.
    "edgenext_xx_small": {"source": "timm", "output_stride": 32, "head": "fcn"},
    "davit_tiny": {"source": "timm", "output_stride": 32, "head": "fcn"},
}


@pytest.mark.parametrize("backbone", CASES)
def test_packed_weights_answer_for_any_shape(backbone: str) -> None:
    if CASES[backbone].get("source") == "timm":
        pytest.importorskip("timm")
    model = made(backbone, **CASES[backbone])
    lively(model, pictures(4, 3, 64, 64))
    packed = deepcopy(model)
    pack(packed, torch.float32)
    packed = deepcopy(packed)
    assert not any(type(layer) is nn.Conv2d for layer in packed.modules())
    assert any(isinstance(layer, PackedConv2d) for layer in packed.modules())
    with torch.inference_mode():
        # They are kept for one shape, so others, and the first one again, must come out right as well.
        for shape in ((2, 3, 64, 64), (3, 3, 49, 67), (2, 3, 64, 64)):
            images = pictures(*shape).contiguous(memory_format=torch.channels_last)
            expected = model(images)
            assert_seen(expected)
            assert_same(packed(images), expected, within=1e-4)
