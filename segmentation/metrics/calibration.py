"""Calibration: are predictions with probability 0.8 right in 80 % of the cases? And the temperature that mends it."""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot
from torchmetrics import Metric

from segmentation.errors import UserError
from segmentation.metrics.curves import chunks
from segmentation.types import is_ignored

BINS = 15
"""Equal bins of confidence, as in Guo et al. 2017 (arXiv:1706.04599)."""

_ERROR_UNIT = 2.0**-28
_CONFIDENCE_UNIT = 2.0**-24
_LOSS_UNIT = 2.0**-20
"""Fixed-point units of errors, confidences and losses: integer sums are the same in any order."""

_COPIES = 8
"""Copies of the histogram that neighbouring pixels are counted in; a power of two."""

_CELLS = _COPIES * (2 * BINS + 1)


class Calibration(Metric):
    """Brier score, expected calibration error and the reliability diagram's bins.

    `binary`: the foreground's probability is compared with the share of foreground pixels. Otherwise the highest
    class probability is the confidence, compared with the share of pixels where that class is right.
    """

    is_differentiable = False
    full_state_update = False
    squared_error: Tensor
    confidence: Tensor
    pixels: Tensor

    def __init__(self, *, binary: bool) -> None:
        super().__init__()
        self.binary = binary
        for name, shape in {"squared_error": (), "confidence": (BINS,), "pixels": (2, BINS)}.items():
            self.add_state(name, default=torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, probabilities_BKHW: Tensor, labels_BHW: Tensor, mask_BHW: Tensor) -> None:
        """Adds probabilities 0..1, the labels predicted from them, and the truth; 255 and nan are left out."""
        for chunk in chunks(probabilities_BKHW, labels_BHW, mask_BHW):
            self._add(*chunk)

    def compute(self) -> dict[str, Tensor]:
        """`brier`, `calibration_error` and, for each bin, `confidence`, `accuracy` (nan where empty), `pixels`.

        The Brier score is the mean over pixels of (p - y)^2, 0..1 (binary), or of its sum over the
        K classes: 0..2 of a softmax, 0..K where each class has a sigmoid of its own.
        The expected calibration error is the mean over pixels of their bin's |accuracy - confidence|, 0..1.
        """
        wrong, right = self.pixels.double().cpu()
        pixels = wrong + right
        confidence = self.confidence.double().cpu() * _CONFIDENCE_UNIT
        return {
            "brier": self.squared_error.double().cpu() * _ERROR_UNIT / pixels.sum(),
            "calibration_error": (right - confidence).abs().sum() / pixels.sum(),
            "confidence": confidence / pixels,
            "accuracy": right / pixels,
            "pixels": pixels.to(torch.int64),
        }

    def _add(self, probabilities_BKP: Tensor, labels_BP: Tensor, mask_BP: Tensor) -> None:
        ignored_BP = is_ignored(mask_BP).float()
        if self.binary:
            confidence_BP, right_BP = probabilities_BKP[:, 0], mask_BP.float()
            error_BP = (confidence_BP - right_BP).square_()
        else:
            confidence_BP = _probability_of(labels_BP, probabilities_BKP)
            right_BP = (labels_BP == mask_BP).float()
            # The sum over classes of (p - y)^2 is the sum of p^2, plus 1 - 2 p of the true class.
            error_BP = _sum_of_squares(probabilities_BKP) + 1
            error_BP -= 2 * _probability_of(
                mask_BP.clamp_max(probabilities_BKP.shape[1] - 1), probabilities_BKP
            )
        # Bins are open below and closed above: wrong pixels first, then right ones, ignored ones last. Adding and
        # clamping is five times faster than `torch.where`.
        cells_BP = (confidence_BP * BINS).ceil_().clamp_(1, BINS).sub_(1).add_(right_BP, alpha=BINS)
        # The last addition makes them nan where the error is nan.
        cells_BP = cells_BP.add_(ignored_BP, alpha=2 * BINS).add_(error_BP, alpha=0)
        cells_P = cells_BP.clamp_max_(2 * BINS).nan_to_num_(2 * BINS).to(torch.int32).flatten()
        cells_P = _spread_over_copies(cells_P)
        self.pixels += _sum_of_copies(torch.bincount(cells_P, minlength=_CELLS))
        confidence = torch.zeros(_CELLS, dtype=torch.float64, device=cells_P.device)
        confidence.scatter_add_(0, cells_P.long(), _to_units(confidence_BP, _CONFIDENCE_UNIT).flatten())
        self.confidence += _sum_of_copies(confidence).sum(0).long()
        error_BP = error_BP.nan_to_num_(0).mul_(1 - ignored_BP)
        self.squared_error += _to_units(error_BP, _ERROR_UNIT).sum().long()


_STEPS = 8
"""Temperatures that are tried, per doubling."""

_DOUBLINGS = 3
"""From 1/8 to 8."""

_EVERY = 4
"""Rows and columns of which one is counted: neighbours say nearly the same."""


class Temperature(Metric):
    """The temperature by which logits are divided, so that the likelihood of the truth is greatest.

    It is found on a grid (eight steps to a doubling, from 1/8 to 8) and between its best three by a parabola; the
    negative log likelihood has one minimum (Guo et al. 2017, arXiv:1706.04599). Every fourth row and column counts.
    `independent`: each probability is a sigmoid of its own.
    """

    is_differentiable = False
    full_state_update = False
    loss: Tensor
    pixels: Tensor

    def __init__(self, *, independent: bool) -> None:
        super().__init__()
        self.independent = independent
        grid = torch.arange(-_DOUBLINGS * _STEPS, _DOUBLINGS * _STEPS + 1) / _STEPS
        self.tried = grid.double().exp2().tolist()
        for name, shape in {"loss": (len(self.tried),), "pixels": ()}.items():
            self.add_state(name, default=torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits_BKHW: Tensor, mask_BHW: Tensor, top: int = 0, left: int = 0) -> None:
        """Adds logits and the truth, of images or of a block that begins at row `top`, column `left` of one."""
        rows, columns = slice(-top % _EVERY, None, _EVERY), slice(-left % _EVERY, None, _EVERY)
        truth_BHW = mask_BHW[:, rows, columns]
        valid_BHW = ~is_ignored(truth_BHW)
        truth_P = truth_BHW[valid_BHW].long()
        logits_PK = logits_BKHW[:, :, rows, columns].permute(0, 2, 3, 1)[valid_BHW].float()
        for index, temperature in enumerate(self.tried):
            self.loss[index] += (
                _to_units(self._losses(logits_PK / temperature, truth_P), _LOSS_UNIT).sum().long()
            )
        self.pixels += len(truth_P)

    def compute(self) -> float:
        """The temperature, 1/8..8. Raises `UserError` without valid pixels."""
        if not self.pixels:
            raise UserError("No pixel of the val split is labelled: a temperature cannot be fitted.")
        loss = self.loss.double().cpu()
        best = int(loss.argmin())
        step = 0.0
        if 0 < best < len(loss) - 1:
            before, least, after = loss[best - 1 : best + 2].tolist()
            step = (before - after) / (2 * (before - 2 * least + after) or 1)
        return self.tried[best] * 2 ** (step / _STEPS)

    def _losses(self, logits_PK: Tensor, truth_P: Tensor) -> Tensor:
        if not self.independent:
            return cross_entropy(logits_PK, truth_P, reduction="none")
        classes = logits_PK.shape[1]
        truth_PK = truth_P[:, None].float() if classes == 1 else one_hot(truth_P, classes).float()
        return binary_cross_entropy_with_logits(logits_PK, truth_PK, reduction="none").sum(1)


def _spread_over_copies(cells_P: Tensor) -> Tensor:
    # Most pixels fall into one bin, and each addition would wait for the one before: neighbours use other copies.
    place_P = torch.arange(len(cells_P), dtype=cells_P.dtype, device=cells_P.device)
    return cells_P.mul_(_COPIES).add_(place_P.bitwise_and_(_COPIES - 1))


def _sum_of_copies(cells: Tensor) -> Tensor:
    return cells.view(-1, _COPIES).sum(1)[:-1].view(2, BINS)


def _to_units(values_BP: Tensor, unit: float) -> Tensor:
    # As float64, which holds integers exactly up to 2^53 and is six times faster here than int64.
    return (values_BP / unit).round_().double()


def _probability_of(labels_BP: Tensor, probabilities_BKP: Tensor) -> Tensor:
    return probabilities_BKP.gather(1, labels_BP.long()[:, None])[:, 0]


def _sum_of_squares(probabilities_BKP: Tensor) -> Tensor:
    # One class at a time is twice as fast as squaring the whole tensor.
    total_BP = torch.zeros_like(probabilities_BKP[:, 0])
    for probability_BP in probabilities_BKP.unbind(1):
        total_BP.addcmul_(probability_BP, probability_BP)
    return total_BP
