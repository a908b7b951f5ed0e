"""The losses as pure functions of logits (B, K, H, W) and labels (B, H, W); ignored labels count nowhere.

One logit (K = 1) is binary: the pair (0, z), whose softmax is (1 - sigmoid(z), sigmoid(z)), takes the place
of a logit a class. `weights_K` has a weight for each class, so two for binary data.

There are two families. A *pixel* loss has a value at each pixel, and is their mean with the weight of each
pixel's true class. A *region* loss has a value for each class over all pixels of the batch, and is their mean
with the weights of the classes. Ignored pixels are multiplied by zero rather than picked out: picking makes a
GPU wait for the size of the result.

Among processes that share a batch (`pooling`) the sums are over all of it. The Lovász loss, which sorts pixels,
is each share's own, with the weight of its valid pixels.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import all_reduce

from segmentation.types import IGNORE_INDEX

# MERGED FROM losses/pooling: Sums over a batch of which several processes have a share each.

_pooled = False


@contextmanager
def pooled() -> Iterator[None]:
    """Inside, `total` adds up the shares of all processes, which must all come here alike."""
    global _pooled
    _pooled = True
    try:
        yield
    finally:
        _pooled = False


def total(values: Tensor) -> Tensor:
    """`values`, which are sums over a share, as sums over the whole batch; gradients flow back to every share.

    Every process then has the whole batch's loss, and the mean of their gradients is its gradient.
    """
    if not _pooled or not torch.distributed.is_initialized():
        return values
    summed: Tensor = _Total.apply(values)
    return summed


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        summed = values.clone()
        all_reduce(summed)
        return summed

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        summed = gradient.contiguous().clone()
        all_reduce(summed)
        return summed


_PIXELS = (0, 2, 3)


def bce(logits_BKHW: Tensor, mask_BHW: Tensor, weights_K: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Pixel loss: binary cross-entropy of each logit, every class against the rest, averaged over the logits.

    `label_smoothing` (0..1) moves that share of the target to an even bet.
    """
    target = one_hot(mask_BHW, logits_BKHW.shape[1]).float()
    target = target * (1 - label_smoothing) + label_smoothing / 2
    losses = nn.functional.binary_cross_entropy_with_logits(logits_BKHW, target, reduction="none")
    return _pixel_mean(losses.mean(dim=1), mask_BHW, weights_K)


def cross_entropy(
    logits_BKHW: Tensor, mask_BHW: Tensor, weights_K: Tensor, *, label_smoothing: float = 0.0
) -> Tensor:
    """Pixel loss: softmax cross-entropy.

    `label_smoothing` (0..1) moves that share of the target to all classes alike.
    """
    losses = nn.functional.cross_entropy(
        _sides(logits_BKHW),
        mask_BHW.long(),
        ignore_index=IGNORE_INDEX,
        reduction="none",
        label_smoothing=label_smoothing,
    )
    return _pixel_mean(losses, mask_BHW, weights_K)


def focal(
    logits_BKHW: Tensor,
    mask_BHW: Tensor,
    weights_K: Tensor,
    *,
    gamma: float = 2.0,
    alpha: float | None = None,
) -> Tensor:
    """Pixel loss: -alpha_t (1 - p_t)^gamma log p_t of each logit's sigmoid, averaged over the logits.

    `gamma` >= 0 takes weight from what is already right; `alpha` (0..1) is the weight of the class and
    1 - alpha that of the rest, None gives both 1. Several classes are each held against the rest, as in the
    source: Lin et al. 2017, Focal Loss for Dense Object Detection, eq. 5.
    """
    target = one_hot(mask_BHW, logits_BKHW.shape[1])
    towards_truth = torch.where(target, logits_BKHW, -logits_BKHW)
    # (1 - p)^gamma through the logarithm: as a plain power its gradient is infinite at p = 1 for gamma < 1.
    log_right = nn.functional.logsigmoid(towards_truth)
    losses = -torch.exp(gamma * (log_right - towards_truth)) * log_right
    if alpha is not None:
        losses = losses * torch.where(target, alpha, 1 - alpha)
    return _pixel_mean(losses.mean(dim=1), mask_BHW, weights_K)


def tversky(
    logits_BKHW: Tensor,
    mask_BHW: Tensor,
    weights_K: Tensor,
    *,
    alpha: float = 0.5,
    beta: float = 0.5,
    smooth: float = 0.0,
) -> Tensor:
    """Region loss: 1 - TP / (TP + alpha FP + beta FN), of sums of probabilities over the batch.

    `alpha`, `beta` >= 0 weigh false positives and false negatives; 0.5 for both is the Dice loss.
    `smooth` >= 0 is added to numerator and denominator. Salehi et al. 2017, Tversky loss function, eq. 4.

    The value of a class counts if it has a valid pixel in the batch. Only where that holds for no class of
    weight (binary data without foreground) do all count, each with the mean probability that was given to it.
    """
    probabilities_BKHW = _sides(logits_BKHW).softmax(dim=1)
    target_BKHW = one_hot(mask_BHW, probabilities_BKHW.shape[1])
    valid_B1HW = _valid(mask_BHW)
    true_positives = total((probabilities_BKHW * target_BKHW).sum(_PIXELS))
    false_positives = total((probabilities_BKHW * (valid_B1HW & ~target_BKHW)).sum(_PIXELS))
    pixels = total(target_BKHW.sum(_PIXELS))
    missed = alpha * false_positives + beta * (pixels - true_positives)
    score = (true_positives + smooth) / (true_positives + missed + smooth).clamp_min(1e-7)
    claimed = false_positives / total(valid_B1HW.sum()).clamp_min(1)
    return _class_mean(torch.where(pixels > 0, 1 - score, claimed), pixels > 0, weights_K)


def lovasz(logits_BKHW: Tensor, mask_BHW: Tensor, weights_K: Tensor) -> Tensor:
    """Region loss: the Lovász extension of the Jaccard loss of each class over the batch.

    Several classes: of the errors |target - softmax|, in 0..1; one logit: of the hinge max(0, 1 - z) or
    max(0, 1 + z), from 0 without a bound. Berman et al. 2018, The Lovász-Softmax loss, eq. 9, 11 and alg. 1.
    Which classes count: as for `tversky`; the value of a class without a pixel is its greatest error.
    """
    target_BKHW = one_hot(mask_BHW, len(weights_K))
    if logits_BKHW.shape[1] == 1:
        margins = torch.cat([-logits_BKHW, logits_BKHW], dim=1)
        errors = nn.functional.relu(1 - torch.where(target_BKHW, margins, -margins))
    else:
        errors = (target_BKHW.float() - logits_BKHW.softmax(dim=1)).abs()
    errors = errors * _valid(mask_BHW)
    # A class at a time: sorting all at once holds K times the indices.
    classes = zip(errors.unbind(1), target_BKHW.unbind(1), strict=True)
    losses = torch.stack([_jaccard_extension(error.flatten(), target.flatten()) for error, target in classes])
    own, valid = _class_mean(losses, target_BKHW.sum(_PIXELS) > 0, weights_K), _valid(mask_BHW).sum()
    return total(own * valid) / total(valid).clamp_min(1)


def one_hot(mask_BHW: Tensor, logits: int) -> Tensor:
    """(B, K, H, W) bool for K = `logits`, a single one standing for class 1; ignored pixels are False."""
    classes = torch.arange(logits, device=mask_BHW.device) + (logits == 1)
    return mask_BHW[:, None] == classes[:, None, None]


def _sides(logits_BKHW: Tensor) -> Tensor:
    if logits_BKHW.shape[1] > 1:
        return logits_BKHW
    return torch.cat([torch.zeros_like(logits_BKHW), logits_BKHW], dim=1)


def _valid(mask_BHW: Tensor) -> Tensor:
    return (mask_BHW != IGNORE_INDEX)[:, None]


def _pixel_mean(losses_BHW: Tensor, mask_BHW: Tensor, weights_K: Tensor) -> Tensor:
    """The mean, weighted by each pixel's true class; zero where no pixel has weight."""
    weights_BHW = weights_K[mask_BHW.clamp_max(len(weights_K) - 1).long()] * (mask_BHW != IGNORE_INDEX)
    weight = total(weights_BHW.sum())
    return total((losses_BHW * weights_BHW).sum()) / torch.where(weight > 0, weight, 1)


def _class_mean(losses_K: Tensor, present_K: Tensor, weights_K: Tensor) -> Tensor:
    """The weighted mean over the classes that are present, or over all where none of weight is.

    Of 21 classes most are absent from a batch and would drown the others; but where only the foreground has
    weight and there is none, false alarms must still cost something.
    """
    counted = weights_K * present_K
    counted = torch.where(counted.sum() > 0, counted, weights_K)
    return (losses_K * counted).sum() / counted.sum()


def _jaccard_extension(errors_N: Tensor, target_N: Tensor) -> Tensor:
    """Errors from the greatest down, each times what it adds to the Jaccard loss."""
    errors_N, order = errors_N.sort(descending=True)
    target_N = target_N[order]
    # Sums of integers, and each step in closed form: differences of rounded Jaccard values lose most digits.
    pixels, found = target_N.sum(), target_N.cumsum(0, dtype=torch.int32)
    seen = torch.arange(1, len(target_N) + 1, dtype=torch.int32, device=target_N.device)
    union = pixels + seen - found
    step = torch.where(target_N, 1, (pixels - found) / (union - 1).clamp_min(1)) / union
    return torch.where(pixels > 0, (errors_N * step).sum(), errors_N[0])
