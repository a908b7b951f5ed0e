"""Untrained models for the tests, with batch norm statistics as after a training."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segmentation.models import Segmenter, create_segmenter

TINY = {"backbone": "test_resnet", "source": "timm"}
"""The options of `made` for a network of a few layers."""


def made(
    backbone: str,
    *,
    head: str = "deeplabv3",
    source: str = "torchvision",
    output_stride: int | None = None,
    outputs: int = 3,
    channels: int = 3,
    aux: bool = False,
    **options: Any,
) -> Segmenter:
    """`options` are the head's."""
    return create_segmenter(
        backbone={"source": source, "name": backbone},
        head={"name": head, **options},
        outputs=outputs,
        output_stride=output_stride,
        channels=channels,
        aux=aux,
    )


@contextmanager
def uninitialized_weights() -> Iterator[None]:
    """Models get uninitialised weights, which is faster."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("kaiming_normal_", "kaiming_uniform_", "normal_", "trunc_normal_", "uniform_"):
            patch.setattr(nn.init, name, lambda tensor, *args, **options: tensor)
        yield


def randomize_norms(model: nn.Module, images_BCHW: Tensor) -> None:
    """Leaves `model` in evaluation mode, with batch norms as after a training on such images.

    New batch norms do nothing, so a test would not notice a missing one, and the signal of a deep untrained network
    fades until its output is the same for every image: then any two models would agree.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.2)
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(images_BCHW)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()


def pictures(*shape: int) -> Tensor:
    """Raw uint8 pixels (B, 3, H, W)."""
    return torch.randint(0, 256, shape, dtype=torch.uint8)


def assert_same(found: Tensor, expected: Tensor, *, within: float = 2e-5) -> None:
    """Equal within the rounding of float32, relative to the largest value, because sums of both signs lose digits."""
    scale = expected.abs().max()
    torch.testing.assert_close(found / scale, expected / scale, rtol=0, atol=within)


def assert_depends_on_image(logits_BKHW: Tensor) -> None:
    """The first two images of the batch have different logits: otherwise a test would compare constants."""
    difference = (logits_BKHW[0] - logits_BKHW[1]).abs().max()
    assert difference > 0.01 * logits_BKHW.abs().max()
