"""Backbones: any classifier of torchvision or timm that has feature maps."""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

from pydantic import Field
from torch import nn

from segmentation.models.backbones.base import OUTPUT_STRIDES, STRIDES, Backbone
from segmentation.models.backbones.timm import TimmBackbone
from segmentation.models.backbones.torchvision import TorchvisionBackbone
from segmentation.options import call, create

__all__ = ["OUTPUT_STRIDES", "SOURCES", "STRIDES", "Backbone", "create_backbone"]

SOURCES: Mapping[str, type[Backbone]] = {"torchvision": TorchvisionBackbone, "timm": TimmBackbone}


def create_backbone(section: Mapping[str, Any], *, output_stride: int | None, in_channels: int) -> Backbone:
    """An untrained backbone: a `source` of `SOURCES`, the `name` that this library uses, and its options.

    `norm_momentum` is the weight (0..1) of a new batch in the running statistics of the batch norms; None keeps the
    library's. Raises `UserError` for a name, option or stride that is not possible.
    """
    options = dict(section)
    sources = {
        name: partial(each, output_stride=output_stride, in_channels=in_channels)
        for name, each in SOURCES.items()
    }
    source, momentum = options.pop("source", "torchvision"), options.pop("norm_momentum", None)
    backbone: Backbone = create("backbone", sources, source, **options)
    call("backbone", _set_momentum, backbone, norm_momentum=momentum)
    return backbone


def _set_momentum(backbone: Backbone, *, norm_momentum: Annotated[float, Field(gt=0, le=1)] | None) -> None:
    if norm_momentum is not None:
        for module in backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = norm_momentum
