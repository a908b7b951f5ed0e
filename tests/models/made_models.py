"""Models for the tests: untrained, but with statistics that make every layer count."""

from typing import Any

import torch
from torch import Tensor, nn

from segmentation.models import Segmenter, create_segmenter


def made(
    backbone: str, *, output_stride: int = 16, outputs: int = 3, aux: bool = False, **head: Any
) -> Segmenter:
    return create_segmenter(
        backbone={"name": backbone},
        head={"name": "deeplabv3", **head},
        outputs=outputs,
        output_stride=output_stride,
        aux=aux,
    )


def lively(model: nn.Module) -> nn.Module:
    """Batch norms as after a training: fresh ones do nothing, and would hide a norm that is left out."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return model.eval()


def pictures(*shape: int) -> Tensor:
    """Raw uint8 pixels (B, 3, H, W)."""
    return torch.randint(0, 256, shape, dtype=torch.uint8)


def assert_same(found: Tensor, expected: Tensor) -> None:
    """Equal to float32's rounding, measured against the largest value: sums of both signs lose digits."""
    scale = expected.abs().max()
    torch.testing.assert_close(found / scale, expected / scale, rtol=0, atol=2e-5)
