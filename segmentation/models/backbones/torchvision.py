"""Torchvision's classifiers as backbones.

Nothing about one is typed in: its blocks come from the module itself, their strides and channels are measured
on the meta device, which computes shapes alone.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import get_model, list_models

from segmentation.errors import UserError, closest
from segmentation.models.backbones.base import (
    OUTPUT_STRIDES,
    STRIDES,
    Backbone,
    choose_stride,
    measure_chain,
    widen_input,
)
from segmentation.models.backbones.dilation import can_dilate, dilate

# MERGED FROM models/backbones/blocks: A torchvision classifier taken apart: the chain of blocks that gives feature

_FAMILIES = (
    *("convnext", "densenet", "efficientnet", "mnasnet", "mobilenet", "regnet", "resnet", "resnext"),
    *("shufflenet", "swin", "vgg", "wide_resnet"),
)
# Where the blocks lie, if not at the top, and what stands behind them.
_CONTAINERS = ("features", "layers", "trunk_output")
# Published DenseNets are older than its names; torchvision, too, renames them as it loads them.
_OLD_DENSE = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")
_BEHIND = ("avgpool", "classifier", "fc", "flatten", "head", "permute")


def trunk_names() -> Sequence[str]:
    """Torchvision's names of the classifiers that can be a backbone.

    Not among them: AlexNet, GoogLeNet, Inception and SqueezeNet, whose maps do not halve from stride to stride;
    ViT, which has one stride alone; MaxViT, whose attention is built for one image size.
    """
    names = list_models(module=torchvision.models)
    return [name for name in names if name.startswith(_FAMILIES)]


def create_blocks(name: str) -> dict[str, nn.Module]:
    """The untrained blocks of a classifier in order, under torchvision's names for them.

    Raises `UserError` for a name that `trunk_names` does not hold.
    """
    if name not in trunk_names():
        raise UserError(f"backbone.name={name} is unknown.{closest(name, trunk_names())}")
    with torch.device("cpu"):  # RegNet computes its widths with tensors
        classifier = get_model(name, weights=None)
    blocks: dict[str, nn.Module] = {}
    for key, child in classifier.named_children():
        if key in _CONTAINERS:
            blocks.update(child.named_children())
        elif key not in _BEHIND:
            blocks[key] = child
    if name.startswith("densenet"):
        blocks["relu5"] = nn.ReLU()  # its classifier has this one in `forward`
    return blocks


def block_key(key: str) -> str:
    """A tensor's name in the classifier -> its name in the chain of blocks."""
    container, _, rest = key.partition(".")
    return _OLD_DENSE.sub(r"\1\2", rest if container in _CONTAINERS else key)


Taps = Literal["last", "first"]


class TorchvisionBackbone(Backbone, nn.ModuleDict):
    """A chain of blocks, named as torchvision names them.

    `output_stride` is 8, 16 or 32; None takes 16 where the trunk can do it, else the finest that it can.
    `taps` says which block gives the features of strides 4, 8 and 16: the last one of that stride (None too),
    or the first one, as torchvision's own LR-ASPP has it. Those of 32 always come from the last.

    Raises `UserError` for a name and for a stride that the trunk cannot give.
    """

    def __init__(
        self, *, name: str, output_stride: int | None = None, in_channels: int = 3, taps: Taps | None = None
    ) -> None:
        super().__init__(create_blocks(name))
        widen_input(self, in_channels)
        self.eval()
        actual = measure_chain(self, in_channels)
        nominal = {block: each.stride for block, each in actual.items()}
        output_stride = choose_stride(name, output_stride, _possible(self, nominal))
        if output_stride < max(nominal.values()):
            # Torchvision trained its MobileNetV3 with dilation in the strided convolution itself.
            dilate(self, nominal, output_stride, dilate_strided=name.startswith("mobilenet_v3"))
            actual = measure_chain(self, in_channels)
        tapped = _tapped(nominal, taps)
        self._taps = {block: (stride, actual[block].channels_last) for stride, block in tapped.items()}
        self.strides = {stride: actual[block].stride for stride, block in tapped.items()}
        self.channels = {stride: actual[block].channels for stride, block in tapped.items()}
        self.train()

    def forward(self, image_BCHW: Tensor) -> dict[int, Tensor]:
        """Normalised images (B, C, H, W) -> feature maps (B, c, h, w) by nominal stride."""
        features, values = {}, image_BCHW
        for name, block in self.items():
            values = block(values)
            if name in self._taps:
                stride, channels_last = self._taps[name]
                features[stride] = values.permute(0, 3, 1, 2) if channels_last else values
        return features

    def key(self, key: str) -> str:
        """The name here of a tensor of torchvision's classifier."""
        return block_key(key)

    def blocks(self) -> tuple[str, ...]:
        """The chain's links."""
        return tuple(self)


def _possible(blocks: nn.ModuleDict, strides: Mapping[str, int]) -> tuple[int, ...]:
    finest, before = min(OUTPUT_STRIDES), 1
    for name, block in blocks.items():
        if strides[name] > before and not can_dilate(block):
            finest = max(finest, strides[name])
        before = strides[name]
    return tuple(stride for stride in OUTPUT_STRIDES if stride >= finest)


def _tapped(strides: Mapping[str, int], taps: Taps | None) -> dict[int, str]:
    last = {stride: block for block, stride in strides.items()}
    first = {stride: block for block, stride in reversed(list(strides.items()))}
    chosen = {**first, 32: last[32]} if taps == "first" else last
    return {stride: chosen[stride] for stride in STRIDES}
