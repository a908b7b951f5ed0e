"""Boundary IoU: IoU of the bands along the contours (Cheng et al. 2021, arXiv:2103.16562)."""

import math

import torch
from torch import Tensor
from torchmetrics import Metric

from segmentation.metrics.confusion import image_counts
from segmentation.types import is_ignored

_BAND = 0.02
"""Width of the band as a share of the image's diagonal, as in the paper."""


class BoundaryCounts(Metric):
    """Band pixels, int64 (2, K) for `num_classes`: in both truth and prediction (row 0), and in either (row 1).

    The band of a class is the part of its mask within 2 % of the image's diagonal of its contour. The image's border
    counts as contour, as in the paper's code. Ignored pixels (truth 255) are removed from both masks.
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
        # Pixels outside the bands become an extra class after the others.
        pair_BHW = (pair_BHW | outside_bands(pair_BHW)).clamp_max_(self.num_classes)
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


def outside_bands(labels_BHW: Tensor) -> Tensor:
    """uint8 (B, H, W): 0 where another label, or the image's border, is within 2 % of the diagonal, else 255."""
    height, width = labels_BHW.shape[-2:]
    reach = max(round(_BAND * math.hypot(height, width)), 1)
    # The highest label in the neighbourhood, and the lowest as the highest of the inverted labels.
    highest_BHW, inverse_BHW = _highest_around(torch.cat([labels_BHW, ~labels_BHW]), reach).chunk(2)
    return _all_bits(highest_BHW == ~inverse_BHW)


def _all_bits(chosen_BHW: Tensor) -> Tensor:
    # bool -> 255 or 0, for `|`. Up to 60 times faster than `where` or `masked_fill`.
    return -chosen_BHW.view(torch.uint8)


def _highest_around(values_BHW: Tensor, reach: int) -> Tensor:
    # Maximum over a square of side 2 * reach + 1, by windows that double in size; the image is padded with 255.
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
