"""From logits and a mask to what training makes small."""

from typing import Any

from torch import nn

from segmentation.config import create
from segmentation.losses.functional import pooled
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

__all__ = ["LOSSES", "create_loss", "pooled"]

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
    """The loss called `name` for this many classes, two of them where the data are binary.

    The module maps logits (B, K, H, W), K = 1 for binary, and a mask (B, H, W), 255 for ignore, to a scalar.
    Raises `UserError` for a name, an option or a value that is not right.
    """
    return create("loss", LOSSES, name, binary, classes, **options)
