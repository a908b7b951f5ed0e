"""torchvision's classifiers as backbones.

No classifier is described by hand: its blocks come from the module itself, their strides and channels from shape
inference on the meta device.
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
    FeatureShape,
    choose_stride,
    infer_shapes,
    set_in_channels,
)
from segmentation.models.backbones.dilation import can_dilate, dilate

_FAMILIES = (
    *("convnext", "densenet", "efficientnet", "mnasnet", "mobilenet", "regnet", "resnet", "resnext"),
    *("shufflenet", "swin", "vgg", "wide_resnet"),
)
_CONTAINERS = ("features", "layers", "trunk_output")  # modules that hold the blocks, in some families
_CLASSIFYING = ("avgpool", "classifier", "fc", "flatten", "head", "permute")  # modules behind the blocks
# Published DenseNet weights have older names; torchvision renames them in the same way when it loads them.
_OLD_DENSE = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")


def backbone_names() -> Sequence[str]:
    """torchvision's names of the classifiers that can be a backbone.

    Not among them: AlexNet, GoogLeNet, Inception and SqueezeNet, whose feature maps do not halve from stride to stride;
    ViT, which has a single stride; MaxViT, whose attention is built for one image size.
    """
    names = list_models(module=torchvision.models)
    return [name for name in names if name.startswith(_FAMILIES)]


def create_blocks(name: str) -> dict[str, nn.Module]:
    """The untrained blocks of a classifier in order, with torchvision's names.

    Raises `UserError` for a name that is not one of `backbone_names`.
    """
    if name not in backbone_names():
        raise UserError(f"backbone.name={name} is unknown.{closest(name, backbone_names())}")
    with torch.device("cpu"):  # RegNet computes its widths with tensors
        classifier = get_model(name, weights=None)
    blocks: dict[str, nn.Module] = {}
    for key, child in classifier.named_children():
        if key in _CONTAINERS:
            blocks.update(child.named_children())
        elif key not in _CLASSIFYING:
            blocks[key] = child
    if name.startswith("densenet"):
        blocks["relu5"] = nn.ReLU()  # the classifier calls it in `forward`
    return blocks


Taps = Literal["last", "first"]

_SHAPES: dict[tuple[str, int | None, int], dict[str, FeatureShape]] = {}
"""Of the backbones built before: a checkpoint's is built twice, and inference takes a third of the time of that."""


def _shapes(
    blocks: nn.ModuleDict, name: str, output_stride: int | None, in_channels: int
) -> dict[str, FeatureShape]:
    key = name, output_stride, in_channels
    if key not in _SHAPES:
        _SHAPES[key] = infer_shapes(blocks, in_channels)
    return _SHAPES[key]


class TorchvisionBackbone(Backbone, nn.ModuleDict):
    """Blocks that are called one after another, with torchvision's names.

    `output_stride` is 8, 16 or 32; None is 16 if the backbone can do it, else the finest that it can.
    `taps` says which block gives the features of strides 4, 8 and 16: the last one of that stride (also for None),
    or the first one, as in torchvision's LR-ASPP. The features of stride 32 always come from the last block.

    Raises `UserError` for an unknown name and for a stride that the backbone cannot give.
    """

    def __init__(
        self, *, name: str, output_stride: int | None = None, in_channels: int = 3, taps: Taps | None = None
    ) -> None:
        super().__init__(create_blocks(name))
        set_in_channels(self, in_channels)
        self.eval()
        shapes = _shapes(self, name, None, in_channels)
        nominal = {block: shape.stride for block, shape in shapes.items()}
        output_stride = choose_stride(name, output_stride, _possible_strides(self, nominal))
        if output_stride < max(nominal.values()):
            # torchvision trained its MobileNetV3 with dilation in the strided convolution itself.
            dilate(self, nominal, output_stride, dilate_strided=name.startswith("mobilenet_v3"))
            shapes = _shapes(self, name, output_stride, in_channels)
        self._taps: dict[str, tuple[int, bool]] = {}
        self.strides, self.channels = {}, {}
        for stride, block in _tapped(nominal, taps).items():
            self._tap(stride, block, shapes[block])
        self._finest = next(
            ((block, shapes[block]) for block in reversed(nominal) if nominal[block] == 2), None
        )
        self.train()

    def _tap(self, nominal: int, block: str, shape: FeatureShape) -> None:
        self._taps[block] = nominal, shape.channels_last
        self.strides[nominal], self.channels[nominal] = shape.stride, shape.channels

    def add_stride_2(self) -> None:
        """That of the last block of this stride; transformers and ConvNeXt have none."""
        if self._finest is not None:
            self._tap(2, *self._finest)

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
        container, _, rest = key.partition(".")
        return _OLD_DENSE.sub(r"\1\2", rest if container in _CONTAINERS else key)

    def blocks(self) -> tuple[str, ...]:
        """The names of the blocks."""
        return tuple(self)


def _possible_strides(blocks: nn.ModuleDict, strides: Mapping[str, int]) -> tuple[int, ...]:
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
