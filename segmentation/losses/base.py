"""What all losses share: class weights, float32, and options held to their range."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from segmentation.errors import UserError

Weights = Sequence[float] | None


class Loss(nn.Module):
    """`function` with its options and a weight for each class; None weighs all the same.

    A region loss of binary data is about the foreground alone, as is the custom, unless weights are given.

    Raises `UserError` where the weights are not one a class, negative or all zero.
    """

    function: Callable[..., Tensor]
    class_weights: Tensor
    region = False

    def __init__(self, binary: bool, classes: int, class_weights: Weights, **options: float | None) -> None:
        super().__init__()
        if class_weights is None:
            class_weights = [0.0, 1.0] if binary and self.region else [1.0] * classes
        if len(class_weights) != classes:
            weights = list(class_weights)
            raise UserError(f"loss.class_weights={weights} must have {classes} numbers, one a class.")
        check_shares(class_weights=class_weights)
        # Not persistent: the weights in a checkpoint are the model's alone.
        self.register_buffer("class_weights", torch.tensor(class_weights).float(), persistent=False)
        self.options = options

    def forward(self, logits_BKHW: Tensor, mask_BHW: Tensor) -> Tensor:
        """The loss of one batch, a float32 scalar."""
        # float32 under autocast too: 16 bits are too few for sums over a batch's pixels.
        return type(self).function(logits_BKHW.float(), mask_BHW, self.class_weights, **self.options)


def check_range(option: str, value: float, low: float, high: float = math.inf) -> None:
    """Raises `UserError` unless the value is a number from `low` to `high`."""
    if not (math.isfinite(value) and low <= value <= high):
        rule = f"between {low} and {high}" if math.isfinite(high) else f"of {low} or more"
        raise UserError(f"loss.{option}={value} is not right: give a number {rule}.")


def check_shares(**shares: Sequence[float]) -> None:
    """Raises `UserError` unless these weights, used together, are 0 or more and not all zero."""
    for option, values in shares.items():
        for value in values:
            check_range(option, value, 0)
    if not any(value > 0 for values in shares.values() for value in values):
        names = " and ".join(f"loss.{option}" for option in shares)
        raise UserError(f"{names}: all zero, so nothing would be learned. Give at least one a value above 0.")
