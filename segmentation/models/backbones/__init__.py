"""Backbones: any classifier of torchvision's or timm's that has feature maps."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field
from torch import nn

from segmentation.config import call, create
from segmentation.errors import UserError
from segmentation.models.backbones.base import OUTPUT_STRIDES, STRIDES, Backbone
from segmentation.models.backbones.timm import TimmBackbone
from segmentation.models.backbones.torchvision import TorchvisionBackbone

__all__ = ["OUTPUT_STRIDES", "SOURCES", "STRIDES", "Backbone", "create_backbone"]

SOURCES: Mapping[str, type[Backbone]] = {"torchvision": TorchvisionBackbone, "timm": TimmBackbone}


def create_backbone(section: Mapping[str, Any], *, output_stride: int | None, in_channels: int) -> Backbone:
    """An untrained backbone: `source` out of `SOURCES`, that library's own `name` for it, and its options.

    `norm_momentum` is the share of a new batch in the running statistics of the batch norms (0..1); None, and
    without it, the library's. Raises `UserError` for whatever of it is not possible.
    """
    options = dict(section)
    for ours in ("output_stride", "in_channels"):
        if ours in options:
            raise UserError(f"There is no option 'backbone.{ours}': the model sets it.")
    source, momentum = options.pop("source", "torchvision"), options.pop("norm_momentum", None)
    backbone = create(
        "backbone", SOURCES, source, output_stride=output_stride, in_channels=in_channels, **options
    )
    call("backbone", _set_momentum, backbone, norm_momentum=momentum)
    return backbone


def _set_momentum(backbone: Backbone, *, norm_momentum: Annotated[float, Field(gt=0, le=1)] | None) -> None:
    if norm_momentum is not None:
        for module in backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = norm_momentum
