"""Whether a probability of 0.8 is right eight times in ten."""

import torch
from torch import Tensor
from torchmetrics import Metric

from segmentation.metrics.curves import chunks
from segmentation.types import is_ignored

BINS = 15
"""Equal bins of confidence, as in Guo et al. 2017 (arXiv:1706.04599)."""

_ERROR_UNIT = 2.0**-28
_CONFIDENCE_UNIT = 2.0**-24
"""Steps in which errors and confidences are summed: whole numbers add up the same in any order."""

_ABREAST = 8
"""Tables that pixels are counted in by turns: a power of two."""

_TABLES = _ABREAST * (2 * BINS + 1)


class Calibration(Metric):
    """The Brier score and the reliability of probabilities.

    `binary`: one probability, of the foreground, held against the share of foreground. Else one a class; the
    highest is the confidence, held against the share of pixels where that class is right.
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
        """Adds probabilities 0..1, the labels decided from them, and the truth; 255 and nan are left out."""
        for slab in chunks(probabilities_BKHW, labels_BHW, mask_BHW):
            self._add(*slab)

    def compute(self) -> dict[str, Tensor]:
        """`brier`, `calibration_error` and, for each bin, `confidence`, `accuracy` (nan where empty), `pixels`.

        The Brier score is the mean over pixels of (p - y)^2, 0..1 (binary), or of its sum over classes, 0..2.
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
            confidence_BP, right_BP = _of(labels_BP, probabilities_BKP), (labels_BP == mask_BP).float()
            # The sum of (p - y)^2 is that of p^2, and 1 - 2 p where y is one.
            error_BP = _sum_of_squares(probabilities_BKP) + 1
            error_BP -= 2 * _of(mask_BP.clamp_max(probabilities_BKP.shape[1] - 1), probabilities_BKP)
        # Bins are open below and closed above; what is wrong comes first, what counts nowhere last. As sums and limits:
        # choosing pixel by pixel takes five times as long.
        cells_BP = (confidence_BP * BINS).ceil_().clamp_(1, BINS).sub_(1).add_(right_BP, alpha=BINS)
        cells_BP = cells_BP.add_(ignored_BP, alpha=2 * BINS).add_(error_BP, alpha=0)  # nan where the error is
        cells_P = cells_BP.clamp_max_(2 * BINS).nan_to_num_(2 * BINS).to(torch.int32).flatten()
        cells_P = _side_by_side(cells_P)
        self.pixels += _added_up(torch.bincount(cells_P, minlength=_TABLES))
        confidence = torch.zeros(_TABLES, dtype=torch.float64, device=cells_P.device)
        confidence.scatter_add_(0, cells_P.long(), _whole(confidence_BP, _CONFIDENCE_UNIT).flatten())
        self.confidence += _added_up(confidence).sum(0).long()
        error_BP = error_BP.nan_to_num_(0).mul_(1 - ignored_BP)
        self.squared_error += _whole(error_BP, _ERROR_UNIT).sum().long()


def _side_by_side(cells_P: Tensor) -> Tensor:
    # Most pixels fall into one bin, whose sum would wait for the last pixel's: neighbours get tables of their own.
    place_P = torch.arange(len(cells_P), dtype=cells_P.dtype, device=cells_P.device)
    return cells_P.mul_(_ABREAST).add_(place_P.bitwise_and_(_ABREAST - 1))


def _added_up(tables: Tensor) -> Tensor:
    return tables.view(-1, _ABREAST).sum(1)[:-1].view(2, BINS)


def _whole(values_BP: Tensor, unit: float) -> Tensor:
    # As doubles, which add up whole numbers exactly up to 2^53: to int64 takes six times as long.
    return (values_BP / unit).round_().double()


def _of(labels_BP: Tensor, probabilities_BKP: Tensor) -> Tensor:
    return probabilities_BKP.gather(1, labels_BP.long()[:, None])[:, 0]


def _sum_of_squares(probabilities_BKP: Tensor) -> Tensor:
    # A class at a time: squaring all at once, then adding up takes twice as long.
    total_BP = torch.zeros_like(probabilities_BKP[:, 0])
    for probability_BP in probabilities_BKP.unbind(1):
        total_BP.addcmul_(probability_BP, probability_BP)
    return total_BP
