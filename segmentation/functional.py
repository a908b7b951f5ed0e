"""The small operations on tensors that more than one room needs."""

import math

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from segmentation.types import IGNORE_INDEX


def resize(values_BKHW: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, corners not aligned: the one way this project resizes logits and features to (H, W)."""
    if values_BKHW.shape[-2:] == size:
        return values_BKHW
    return interpolate(values_BKHW, size=size, mode="bilinear", align_corners=False)


def is_ignored(mask: Tensor) -> Tensor:
    """Where the truth is 255, as bools."""
    # Bytes against bytes: a number is held against each of them by itself, in eight times the time.
    return mask == torch.full_like(mask, IGNORE_INDEX)


class Decision:
    """From logits to probabilities to labels: the one place that knows binary from multiclass.

    Binary is one logit: sigmoid, foreground where the probability is at least `threshold` (0..1).
    Multiclass is one logit a class: softmax, the most probable class.
    """

    def __init__(self, binary: bool, threshold: float = 0.5) -> None:
        self.binary = binary
        self.threshold = threshold

    def probabilities(self, logits_BKHW: Tensor) -> Tensor:
        """(B, K, H, W) in 0..1: of the foreground (K = 1), or of each class, which sum to one."""
        return logits_BKHW.sigmoid() if self.binary else logits_BKHW.softmax(dim=1)

    def labels(self, logits_BKHW: Tensor) -> Tensor:
        """(B, H, W) uint8 class indices."""
        if not self.binary:
            # The indices of `max` are `argmax`, up to nine times as fast on a processor.
            return logits_BKHW.max(dim=1).indices.to(torch.uint8)
        return (logits_BKHW[:, 0] >= self._logit()).to(torch.uint8)

    def _logit(self) -> float:
        if not 0 < self.threshold < 1:
            return math.copysign(math.inf, self.threshold - 0.5)
        return math.log(self.threshold / (1 - self.threshold))
