"""All that is kept of a split while it passes."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from segmentation.metrics.confusion import ConfusionMatrix, MeanLoss, image_counts
from segmentation.metrics.scores import Scores, scores
from segmentation.sample import IGNORE_INDEX


class Tally(nn.Module):
    """The counts of a split and its mean loss, weighed by valid pixels."""

    def __init__(self, num_classes: int, *, binary: bool) -> None:
        super().__init__()
        self.confusion = ConfusionMatrix(num_classes)
        self.mean_loss = MeanLoss()
        self._num_classes = num_classes
        self._binary = binary

    def update(self, loss: Tensor, labels_BHW: Tensor, mask_BHW: Tensor) -> None:
        """Adds predicted labels with their truth, and the mean loss over their valid pixels."""
        self.mean_loss.update(loss, (mask_BHW != IGNORE_INDEX).sum())
        self.confusion.update(image_counts(labels_BHW, mask_BHW, self._num_classes))

    def scores(self) -> Scores:
        """`loss` and everything in `metrics.scores`."""
        loss = {"loss": float(self.mean_loss.compute())}
        return loss | scores(self.confusion.compute(), binary=self._binary)

    def counts(self) -> dict[str, Tensor]:
        """What this process has counted: the tensors themselves, by name."""
        return {
            "confusion": self.confusion.counts,
            "loss": self.mean_loss.total,
            "pixels": self.mean_loss.weight,
        }

    def take_up(self, counts: Mapping[str, Tensor]) -> None:
        """Goes on from the `counts` of a split that was cut off; from nothing, where another process has them."""
        nothing = torch.zeros(0, 1, 1, dtype=torch.uint8, device=self.confusion.counts.device)
        self.update(nothing.sum(), nothing, nothing)  # else torchmetrics warns of scores of nothing
        for name, count in counts.items():
            self.counts()[name].copy_(count)

    def reset(self) -> None:
        """Forgets everything."""
        self.confusion.reset()
        self.mean_loss.reset()
