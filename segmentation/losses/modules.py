"""The losses as modules: options are checked here, the mathematics stand in `functional`.

Each is built for `classes` classes, `binary` where one logit tells two of them apart, and called with logits
(B, K, H, W) of any floating type and a mask (B, H, W), uint8 or int64, where 255 is ignore. The result is a
float32 scalar, zero with gradients where every pixel is ignored. A wrong value raises `UserError`.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from segmentation.errors import UserError
from segmentation.losses import functional

# MERGED FROM losses/base: What all losses share: class weights, float32, and options held to their range.

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


class _Smoothed(Loss):
    def __init__(
        self, binary: bool, classes: int, *, class_weights: Weights = None, label_smoothing: float = 0.0
    ) -> None:
        check_range("label_smoothing", label_smoothing, 0, 1)
        super().__init__(binary, classes, class_weights, label_smoothing=label_smoothing)


class BCE(_Smoothed):
    """`functional.bce`."""

    function = staticmethod(functional.bce)


class CrossEntropy(_Smoothed):
    """`functional.cross_entropy`."""

    function = staticmethod(functional.cross_entropy)


class Focal(Loss):
    """`functional.focal`."""

    function = staticmethod(functional.focal)

    def __init__(
        self,
        binary: bool,
        classes: int,
        *,
        class_weights: Weights = None,
        gamma: float = 2.0,
        alpha: float | None = None,
    ) -> None:
        check_range("gamma", gamma, 0)
        if alpha is not None:
            check_range("alpha", alpha, 0, 1)
        super().__init__(binary, classes, class_weights, gamma=gamma, alpha=alpha)


class Tversky(Loss):
    """`functional.tversky`; its defaults are those that Salehi et al. found best for small lesions."""

    function = staticmethod(functional.tversky)
    region = True

    def __init__(
        self,
        binary: bool,
        classes: int,
        *,
        class_weights: Weights = None,
        alpha: float = 0.3,
        beta: float = 0.7,
        smooth: float = 0.0,
    ) -> None:
        check_shares(alpha=[alpha], beta=[beta])
        check_range("smooth", smooth, 0)
        super().__init__(binary, classes, class_weights, alpha=alpha, beta=beta, smooth=smooth)


class Dice(Loss):
    """`functional.tversky` that weighs false positives and false negatives the same."""

    function = staticmethod(functional.tversky)
    region = True

    def __init__(
        self, binary: bool, classes: int, *, class_weights: Weights = None, smooth: float = 0.0
    ) -> None:
        check_range("smooth", smooth, 0)
        super().__init__(binary, classes, class_weights, alpha=0.5, beta=0.5, smooth=smooth)


class Lovasz(Loss):
    """`functional.lovasz`."""

    function = staticmethod(functional.lovasz)
    region = True

    def __init__(self, binary: bool, classes: int, *, class_weights: Weights = None) -> None:
        super().__init__(binary, classes, class_weights)


class _WithDice(nn.Module):
    """The weighted sum of a pixel loss, built as `pixel`, and `Dice`; class weights are for both."""

    pixel: type[_Smoothed]

    def __init__(
        self,
        binary: bool,
        classes: int,
        *,
        class_weights: Weights = None,
        label_smoothing: float = 0.0,
        smooth: float = 0.0,
        pixel_weight: float = 1.0,
        dice_weight: float = 1.0,
    ) -> None:
        super().__init__()
        check_shares(pixel_weight=[pixel_weight], dice_weight=[dice_weight])
        self.pixel_loss = self.pixel(
            binary, classes, class_weights=class_weights, label_smoothing=label_smoothing
        )
        self.dice = Dice(binary, classes, class_weights=class_weights, smooth=smooth)
        self.pixel_weight, self.dice_weight = pixel_weight, dice_weight

    def forward(self, logits_BKHW: Tensor, mask_BHW: Tensor) -> Tensor:
        """The loss of one batch."""
        pixels: Tensor = self.pixel_loss(logits_BKHW, mask_BHW)
        return self.pixel_weight * pixels + self.dice_weight * self.dice(logits_BKHW, mask_BHW)


class BCEDice(_WithDice):
    """`BCE` and `Dice`."""

    pixel = BCE


class CrossEntropyDice(_WithDice):
    """`CrossEntropy` and `Dice`."""

    pixel = CrossEntropy
