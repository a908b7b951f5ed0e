"""Losses as modules: their options are here, with ranges in `segmentation.ranges`; the mathematics is in `functional`.

Each is built for `classes` classes, `binary` if one logit separates two of them, and called with logits (B, K, H, W)
of any floating type, a mask (B, H, W), uint8 or int64, where 255 is ignore, and the process group that shares the
batch, if any. The result is a float32 scalar; it is zero, with zero gradients, if every pixel is ignored. An invalid
option raises `UserError`.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from segmentation.errors import UserError
from segmentation.losses import functional
from segmentation.ranges import Share

Weights = Sequence[float] | None


class Loss(nn.Module):
    """`function` with its options and one weight per class; None gives all classes the same weight.

    Without weights, a region loss of binary data is that of the foreground alone, as is usual. `one_vs_rest` says that
    logits are trained as sigmoids also for several classes, where others train a softmax.

    Raises `UserError` unless there is one weight per class, and one is above 0.
    """

    function: Callable[..., Tensor]
    class_weights: Tensor
    region = False
    """Whether it measures areas: without weights, binary data then counts the foreground only."""
    one_vs_rest = False

    def __init__(self, binary: bool, classes: int, class_weights: Weights, **options: float | None) -> None:
        super().__init__()
        if class_weights is None:
            class_weights = [0.0, 1.0] if binary and self.region else [1.0] * classes
        if len(class_weights) != classes:
            weights = list(class_weights)
            raise UserError(f"loss.class_weights={weights} must have {classes} numbers, one per class.")
        check_weights(class_weights=class_weights)
        # Not persistent: a checkpoint holds the weights of the model only.
        self.register_buffer("class_weights", torch.tensor(class_weights).float(), persistent=False)
        self.options = options

    def forward(self, logits_BKHW: Tensor, mask_BHW: Tensor, group: ProcessGroup | None = None) -> Tensor:
        """The loss of one batch, a float32 scalar."""
        # float32 also under autocast: 16 bits are too few for sums over the pixels of a batch.
        return type(self).function(logits_BKHW.float(), mask_BHW, self.class_weights, group, **self.options)


def check_weights(**weights: Sequence[float]) -> None:
    """Raises `UserError` if these weights, used together, are all zero."""
    if not any(value > 0 for values in weights.values() for value in values):
        names = " and ".join(f"loss.{option}" for option in weights)
        raise UserError(f"{names}: all zero, so nothing would be learned. Give at least one a value above 0.")


class _WithLabelSmoothing(Loss):
    def __init__(
        self, binary: bool, classes: int, *, class_weights: Weights = None, label_smoothing: float = 0.0
    ) -> None:
        super().__init__(binary, classes, class_weights, label_smoothing=label_smoothing)


class BCE(_WithLabelSmoothing):
    """`functional.bce`."""

    function = staticmethod(functional.bce)
    one_vs_rest = True


class CrossEntropy(_WithLabelSmoothing):
    """`functional.cross_entropy`."""

    function = staticmethod(functional.cross_entropy)


class Focal(Loss):
    """`functional.focal`."""

    function = staticmethod(functional.focal)
    one_vs_rest = True

    def __init__(
        self,
        binary: bool,
        classes: int,
        *,
        class_weights: Weights = None,
        gamma: float = 2.0,
        alpha: Share | None = None,
    ) -> None:
        super().__init__(binary, classes, class_weights, gamma=gamma, alpha=alpha)


class Tversky(Loss):
    """`functional.tversky`; the defaults are what Salehi et al. found best for small lesions."""

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
        check_weights(alpha=[alpha], beta=[beta])
        super().__init__(binary, classes, class_weights, alpha=alpha, beta=beta, smooth=smooth)


class Dice(Loss):
    """`functional.tversky` with the same weight for false positives and false negatives."""

    function = staticmethod(functional.tversky)
    region = True

    def __init__(
        self, binary: bool, classes: int, *, class_weights: Weights = None, smooth: float = 0.0
    ) -> None:
        super().__init__(binary, classes, class_weights, alpha=0.5, beta=0.5, smooth=smooth)


class Lovasz(Loss):
    """`functional.lovasz`."""

    function = staticmethod(functional.lovasz)
    region = True

    def __init__(self, binary: bool, classes: int, *, class_weights: Weights = None) -> None:
        super().__init__(binary, classes, class_weights)


class _WithDice(nn.Module):
    """The weighted sum of the pixel loss `pixel` and `Dice`; class weights are for both."""

    pixel: type[_WithLabelSmoothing]

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
        check_weights(pixel_weight=[pixel_weight], dice_weight=[dice_weight])
        self.pixel_loss = self.pixel(
            binary, classes, class_weights=class_weights, label_smoothing=label_smoothing
        )
        self.dice = Dice(binary, classes, class_weights=class_weights, smooth=smooth)
        self.pixel_weight, self.dice_weight = pixel_weight, dice_weight
        # Dice takes a softmax in any case, but hardly moves the probabilities that the pixel loss asks for.
        self.one_vs_rest = self.pixel.one_vs_rest

    def forward(self, logits_BKHW: Tensor, mask_BHW: Tensor, group: ProcessGroup | None = None) -> Tensor:
        """The loss of one batch, a float32 scalar."""
        pixel_loss: Tensor = self.pixel_loss(logits_BKHW, mask_BHW, group)
        return self.pixel_weight * pixel_loss + self.dice_weight * self.dice(logits_BKHW, mask_BHW, group)


class BCEDice(_WithDice):
    """`BCE` and `Dice`."""

    pixel = BCE


class CrossEntropyDice(_WithDice):
    """`CrossEntropy` and `Dice`."""

    pixel = CrossEntropy
