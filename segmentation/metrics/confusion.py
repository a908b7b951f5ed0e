"""What is counted while batches pass; scores are derived from it once, at the end."""

import torch
from torch import Tensor
from torchmetrics import Metric


class ConfusionMatrix(Metric):
    """Counts of pixels, int64 (K, K) for `num_classes` (1..255) classes: rows are truth, columns prediction.

    Sums of whole numbers: the same for any order, any batch size and any number of processes.
    """

    is_differentiable = False
    full_state_update = False
    counts: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        counts = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self.add_state("counts", default=counts, dist_reduce_fx="sum")

    def update(self, labels_BHW: Tensor, mask_BHW: Tensor) -> None:
        """Counts predicted labels 0..K-1 against the truth; pixels whose truth is 255 are left out."""
        # Ignore gets a row of its own, cut off below: picking the valid pixels first takes 20 times as long.
        truth = mask_BHW.clamp_max(self.num_classes).to(torch.int32)
        cells = truth * self.num_classes + labels_BHW
        counts = torch.bincount(cells.flatten(), minlength=self.num_classes * (self.num_classes + 1))
        self.counts += counts.reshape(-1, self.num_classes)[: self.num_classes]

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
