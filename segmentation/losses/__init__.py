"""Loss functions."""

from typing import Any

from torch import nn

from segmentation.losses.modules import (
    BCE,
    BCEDice,
    CrossEntropy,
    CrossEntropyDice,
    Dice,
    Focal,
    Lovasz,
    Tversky,
)
from segmentation.options import create

__all__ = ["LOSSES", "create_loss"]

LOSSES: dict[str, type[nn.Module]] = {
    "bce": BCE,
    "cross_entropy": CrossEntropy,
    "dice": Dice,
    "focal": Focal,
    "tversky": Tversky,
    "lovasz": Lovasz,
    "bce_dice": BCEDice,
    "ce_dice": CrossEntropyDice,
}


def create_loss(name: str, *, binary: bool, classes: int, **options: Any) -> nn.Module:
    """The loss called `name` for this many classes; binary data has two.

    The module maps logits (B, K, H, W), K = 1 for binary, and a mask (B, H, W), 255 for ignore, to a scalar. With a
    process group as its third argument the loss is that of the batch that these processes share.

    Raises `UserError` for an unknown name or option and for an invalid value.
    """
    return create("loss", LOSSES, name, binary, classes, **options)
