"""Boundary IoU: IoU of the bands along the contours (Cheng et al. 2021, arXiv:2103.16562)."""

import math

import torch
from torch import Tensor
from torchmetrics import Metric

from segmentation.metrics.confusion import image_counts
from segmentation.types import is_ignored

_BAND = 0.02
"""Width of the band as a share of the image's diagonal: the paper's."""


class BoundaryCounts(Metric):
    """Pixels of the bands, int64 (2, K) for `num_classes`: in both truth and prediction, and in either.

    The band of a class is what of its mask lies within 2 % of the diagonal of its contour; the image's border
    is contour too, as in the paper's code. Pixels whose truth is 255 are cut out of both masks.
    """

    is_differentiable = False
    full_state_update = False
    counts: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        counts = torch.zeros(2, num_classes, dtype=torch.int64)
        self.add_state("counts", default=counts, dist_reduce_fx="sum")

    def update(self, labels_BHW: Tensor, mask_BHW: Tensor) -> None:
        """Counts predicted labels 0..K-1 against the truth."""
        truth_BHW = mask_BHW.to(torch.uint8)
        labels_BHW = labels_BHW.to(torch.uint8) | _all_bits(is_ignored(truth_BHW))
        pair_BHW = torch.cat([truth_BHW, labels_BHW])
        # What lies beside the bands is a class of its own, behind the others.
        pair_BHW = (pair_BHW | beside_bands(pair_BHW)).clamp_max_(self.num_classes)
        truth_BHW, labels_BHW = pair_BHW.chunk(2)
        counts_KK = image_counts(labels_BHW, truth_BHW, self.num_classes + 1).sum(0)
        both, truth, predicted = (c[:-1] for c in (counts_KK.diagonal(), counts_KK.sum(1), counts_KK.sum(0)))
        self.counts += torch.stack([both, truth + predicted - both])

    def compute(self) -> Tensor:
        """The counts of everything seen, (2, K) int64."""
        return self.counts


def boundary_iou(counts_2K: Tensor) -> Tensor:
    """(K,) float64 0..1 from `BoundaryCounts`; nan where neither truth nor prediction has a band."""
    both, either = counts_2K.double().cpu()
    return both / either


def beside_bands(labels_BHW: Tensor) -> Tensor:
    """uint8 (B, H, W): 0 where another label, or the image's border, is within 2 % of the diagonal, else 255."""
    height, width = labels_BHW.shape[-2:]
    reach = max(round(_BAND * math.hypot(height, width)), 1)
    # The highest label around, and the lowest as the highest of the inverse.
    highest_BHW, inverse_BHW = _highest_around(torch.cat([labels_BHW, ~labels_BHW]), reach).chunk(2)
    return _all_bits(highest_BHW == ~inverse_BHW)


def _all_bits(chosen_BHW: Tensor) -> Tensor:
    # Of bools: 255 or 0, for `|`. `where` and `masked_fill` go pixel by pixel, and take up to 60 times as long.
    return -chosen_BHW.view(torch.uint8)


def _highest_around(values_BHW: Tensor, reach: int) -> Tensor:
    # The maximum over a square of 2 * reach + 1, in windows that double; beyond the image is the highest value.
    values_BHW = torch.nn.functional.pad(values_BHW, (reach,) * 4, value=255)
    for axis in (1, 2):
        window = 1
        while window < 2 * reach + 1:
            shift = min(window, 2 * reach + 1 - window)
            length = values_BHW.shape[axis] - shift
            values_BHW = torch.maximum(
                values_BHW.narrow(axis, 0, length), values_BHW.narrow(axis, shift, length)
            )
            window += shift
    return values_BHW
