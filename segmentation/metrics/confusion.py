"""What is counted while batches pass; scores are derived from it once, at the end."""

import torch
from torch import Tensor
from torchmetrics import Metric


def image_counts(labels_BHW: Tensor, mask_BHW: Tensor, num_classes: int) -> Tensor:
    """Each image's confusion matrix, int64 (B, K, K) for `num_classes` (1..256) classes.

    Rows are truth, columns prediction. Labels are 0..K-1; pixels whose truth is 255 are left out.
    """
    size, images = num_classes * (num_classes + 1), len(mask_BHW)
    # Ignore gets a row of its own, cut off below: picking the valid pixels first takes 20 times as long.
    cells_BHW = mask_BHW.to(torch.int32, copy=True).clamp_max_(num_classes).mul_(num_classes)
    cells_BHW += labels_BHW.to(torch.int32)
    cells_BHW += torch.arange(images, dtype=torch.int32, device=cells_BHW.device).mul_(size).view(-1, 1, 1)
    counts = torch.bincount(cells_BHW.flatten(), minlength=size * images)
    return counts.view(images, num_classes + 1, num_classes)[:, :-1]


class ConfusionMatrix(Metric):
    """Counts of all pixels, int64 (K, K) for `num_classes` (1..255) classes: rows are truth, columns prediction.

    Sums of whole numbers: the same for any order, any batch size and any number of processes.
    """

    is_differentiable = False
    full_state_update = False
    counts: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        counts = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self.add_state("counts", default=counts, dist_reduce_fx="sum")

    def update(self, counts_BKK: Tensor) -> None:
        """Adds the matrices of images, as `image_counts` gives them."""
        self.counts += counts_BKK.sum(0)

    def compute(self) -> Tensor:
        """The counts of everything seen, (K, K) int64."""
        return self.counts


class MeanLoss(Metric):
    """The mean of values by their weights, in float64; nan where there was no weight."""

    is_differentiable = False
    full_state_update = False
    total: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "weight"):
            self.add_state(name, default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, value: Tensor | float, weight: Tensor | float) -> None:
        """Adds a mean over `weight` >= 0 things, such as a batch's loss over its valid pixels."""
        weight = torch.as_tensor(weight, dtype=torch.float64, device=self.weight.device)
        self.total += torch.as_tensor(value, dtype=torch.float64, device=self.total.device) * weight
        self.weight += weight

    def compute(self) -> Tensor:
        """The weighted mean, a float64 scalar."""
        return self.total / self.weight
