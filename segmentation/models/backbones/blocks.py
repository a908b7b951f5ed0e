"""A torchvision classifier taken apart: the chain of blocks that gives feature maps, and nothing behind it."""

import re
from collections.abc import Sequence

import torch
import torchvision
from torch import nn
from torchvision.models import get_model, list_models

from segmentation.errors import UserError, closest

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
