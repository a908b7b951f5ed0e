"""Losses as pure functions of logits (B, K, H, W) and a mask (B, H, W) of labels; ignored pixels count nowhere.

One logit (K = 1) is binary: it is taken as the pair of logits (0, z), whose softmax is (1 - sigmoid(z), sigmoid(z)).
`weights_K` has one weight per class, so two for binary data.

There are two families. A *pixel* loss has a value per pixel; the result is their mean, weighted by the weight of each
pixel's true class. A *region* loss has a value per class, computed over all pixels of the batch; the result is their
mean, weighted by the class weights. Ignored pixels are multiplied by zero rather than selected: a selection makes a
GPU wait for the size of its result.

With `group`, a process group that shares a batch, sums are over the whole batch: every process gets the loss of the
whole batch, and the mean of the processes' gradients is its gradient. All processes must then make the same calls. The
Lovász loss sorts pixels; it is computed per process and averaged by the number of valid pixels.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup, all_reduce

from segmentation.types import IGNORE_INDEX, is_ignored

_PIXELS = (0, 2, 3)


def bce(
    logits_BKHW: Tensor,
    mask_BHW: Tensor,
    weights_K: Tensor,
    group: ProcessGroup | None = None,
    *,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Pixel loss: binary cross-entropy of each logit, every class against the rest, averaged over the logits.

    `label_smoothing` (0..1) moves the target by that share towards 0.5.
    """
    target = one_hot(mask_BHW, logits_BKHW.shape[1]).float()
    target = target * (1 - label_smoothing) + label_smoothing / 2
    losses = nn.functional.binary_cross_entropy_with_logits(logits_BKHW, target, reduction="none")
    return _pixel_mean(losses.mean(dim=1), mask_BHW, weights_K, group)


def cross_entropy(
    logits_BKHW: Tensor,
    mask_BHW: Tensor,
    weights_K: Tensor,
    group: ProcessGroup | None = None,
    *,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Pixel loss: softmax cross-entropy.

    `label_smoothing` (0..1) spreads that share of the target evenly over all classes.
    """
    losses = nn.functional.cross_entropy(
        _logit_per_class(logits_BKHW),
        mask_BHW.long(),
        ignore_index=IGNORE_INDEX,
        reduction="none",
        label_smoothing=label_smoothing,
    )
    return _pixel_mean(losses, mask_BHW, weights_K, group)


def focal(
    logits_BKHW: Tensor,
    mask_BHW: Tensor,
    weights_K: Tensor,
    group: ProcessGroup | None = None,
    *,
    gamma: float = 2.0,
    alpha: float | None = None,
) -> Tensor:
    """Pixel loss: -alpha_t (1 - p_t)^gamma log p_t of each logit's sigmoid, averaged over the logits.

    `gamma` >= 0 lowers the weight of pixels that are already right; `alpha` (0..1) is the weight of the class and
    1 - alpha that of the rest, None means 1 for both. With several classes, each is compared with the rest, as in
    the source: Lin et al. 2017, Focal Loss for Dense Object Detection, eq. 5.
    """
    target = one_hot(mask_BHW, logits_BKHW.shape[1])
    towards_truth = torch.where(target, logits_BKHW, -logits_BKHW)
    # (1 - p)^gamma is computed through the logarithm: a plain power has an infinite gradient at p = 1 for gamma < 1.
    log_right = nn.functional.logsigmoid(towards_truth)
    losses = -torch.exp(gamma * (log_right - towards_truth)) * log_right
    if alpha is not None:
        losses = losses * torch.where(target, alpha, 1 - alpha)
    return _pixel_mean(losses.mean(dim=1), mask_BHW, weights_K, group)


def tversky(
    logits_BKHW: Tensor,
    mask_BHW: Tensor,
    weights_K: Tensor,
    group: ProcessGroup | None = None,
    *,
    alpha: float = 0.5,
    beta: float = 0.5,
    smooth: float = 0.0,
) -> Tensor:
    """Region loss: 1 - TP / (TP + alpha FP + beta FN), of sums of probabilities over the batch.

    `alpha`, `beta` >= 0 are the weights of false positives and false negatives; 0.5 for both is the Dice loss.
    `smooth` >= 0 is added to numerator and denominator. Salehi et al. 2017, Tversky loss function, eq. 4.

    A class counts if it has a valid pixel in the batch. If no class with a weight has one (binary data without
    foreground), all classes count, each with the mean probability that it was given.
    """
    probabilities_BKHW = _logit_per_class(logits_BKHW).softmax(dim=1)
    target_BKHW = one_hot(mask_BHW, probabilities_BKHW.shape[1])
    valid_B1HW = ~is_ignored(mask_BHW)[:, None]
    true_positives = _total((probabilities_BKHW * target_BKHW).sum(_PIXELS), group)
    false_positives = _total((probabilities_BKHW * (valid_B1HW & ~target_BKHW)).sum(_PIXELS), group)
    pixels = _total(target_BKHW.sum(_PIXELS), group)
    errors = alpha * false_positives + beta * (pixels - true_positives)
    score = (true_positives + smooth) / (true_positives + errors + smooth).clamp_min(1e-7)
    false_alarms = false_positives / _total(valid_B1HW.sum(), group).clamp_min(1)
    return _class_mean(torch.where(pixels > 0, 1 - score, false_alarms), pixels > 0, weights_K)


def lovasz(
    logits_BKHW: Tensor, mask_BHW: Tensor, weights_K: Tensor, group: ProcessGroup | None = None
) -> Tensor:
    """Region loss: the Lovász extension of the Jaccard loss of each class over the batch.

    Several classes: of the errors |target - softmax|, in 0..1. One logit: of the hinge max(0, 1 - z) or
    max(0, 1 + z), from 0 without an upper bound. Berman et al. 2018, The Lovász-Softmax loss, eq. 9, 11 and alg. 1.
    Classes count as in `tversky`; the value of a class without a pixel is its largest error.
    """
    target_BKHW = one_hot(mask_BHW, len(weights_K))
    if logits_BKHW.shape[1] == 1:
        margins = torch.cat([-logits_BKHW, logits_BKHW], dim=1)
        errors = nn.functional.relu(1 - torch.where(target_BKHW, margins, -margins))
    else:
        errors = (target_BKHW.float() - logits_BKHW.softmax(dim=1)).abs()
    valid_B1HW = ~is_ignored(mask_BHW)[:, None]
    errors = errors * valid_B1HW
    # One class at a time: sorting all at once needs K times the memory for indices.
    classes = zip(errors.unbind(1), target_BKHW.unbind(1), strict=True)
    losses = torch.stack([_jaccard_extension(error.flatten(), target.flatten()) for error, target in classes])
    loss, pixels = _class_mean(losses, target_BKHW.sum(_PIXELS) > 0, weights_K), valid_B1HW.sum()
    return _total(loss * pixels, group) / _total(pixels, group).clamp_min(1)


def one_hot(mask_BHW: Tensor, logits: int) -> Tensor:
    """(B, K, H, W) bool for K = `logits`; a single logit stands for class 1. Ignored pixels are False."""
    classes = torch.arange(logits, device=mask_BHW.device) + (logits == 1)
    return mask_BHW[:, None] == classes[:, None, None]


def _logit_per_class(logits_BKHW: Tensor) -> Tensor:
    if logits_BKHW.shape[1] > 1:
        return logits_BKHW
    return torch.cat([torch.zeros_like(logits_BKHW), logits_BKHW], dim=1)


def _pixel_mean(
    losses_BHW: Tensor, mask_BHW: Tensor, weights_K: Tensor, group: ProcessGroup | None
) -> Tensor:
    """The mean, weighted by each pixel's true class; zero if no pixel has a weight."""
    weights_BHW = weights_K[mask_BHW.clamp_max(len(weights_K) - 1).long()] * ~is_ignored(mask_BHW)
    weight = _total(weights_BHW.sum(), group)
    return _total((losses_BHW * weights_BHW).sum(), group) / torch.where(weight > 0, weight, 1)


def _class_mean(losses_K: Tensor, present_K: Tensor, weights_K: Tensor) -> Tensor:
    """The weighted mean over the present classes, or over all classes if no present class has a weight.

    Of 21 classes most are absent from a batch and would dilute the others. But if only the foreground has a weight
    and the batch has none, false alarms must still have a cost.
    """
    counted = weights_K * present_K
    counted = torch.where(counted.sum() > 0, counted, weights_K)
    return (losses_K * counted).sum() / counted.sum()


def _jaccard_extension(errors_N: Tensor, target_N: Tensor) -> Tensor:
    """The sum of the errors in descending order, each times its increment of the Jaccard loss."""
    errors_N, order = errors_N.sort(descending=True)
    target_N = target_N[order]
    # Integer sums, and each increment in closed form: differences of rounded Jaccard values lose most digits.
    pixels, found = target_N.sum(), target_N.cumsum(0, dtype=torch.int32)
    seen = torch.arange(1, len(target_N) + 1, dtype=torch.int32, device=target_N.device)
    union = pixels + seen - found
    step = torch.where(target_N, 1, (pixels - found) / (union - 1).clamp_min(1)) / union
    return torch.where(pixels > 0, (errors_N * step).sum(), errors_N[0])


def _total(values: Tensor, group: ProcessGroup | None) -> Tensor:
    """Sums of one process -> sums over all processes of `group`, with gradients; None is a single process."""
    if group is None:
        return values
    summed: Tensor = _AllReduce.apply(values, group)
    return summed


class _AllReduce(torch.autograd.Function):
    """The sum over processes, whose gradient is the sum of their gradients.

    `torch.distributed.nn.functional.all_reduce` does the same, but torch 2.15 has deprecated it: every run would show
    a warning, and its replacement is in a private module.
    """

    @staticmethod
    def forward(context: Any, values: Tensor, group: ProcessGroup) -> Tensor:
        context.group = group
        summed = values.clone()
        all_reduce(summed, group=group)
        return summed

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        summed = gradient.contiguous().clone()
        all_reduce(summed, group=context.group)
        return summed, None
