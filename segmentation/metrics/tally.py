"""All that is kept of a split while it passes."""

from torch import Tensor, nn

from segmentation.metrics.confusion import ConfusionMatrix, MeanLoss
from segmentation.metrics.scores import Scores, scores
from segmentation.sample import IGNORE_INDEX


class Tally(nn.Module):
    """The counts of a split and its mean loss, weighed by valid pixels."""

    def __init__(self, num_classes: int, *, binary: bool) -> None:
        super().__init__()
        self.confusion = ConfusionMatrix(num_classes)
        self.mean_loss = MeanLoss()
        self._binary = binary

    def update(self, loss: Tensor, labels_BHW: Tensor, mask_BHW: Tensor) -> None:
        """Adds predicted labels with their truth, and the mean loss over their valid pixels."""
        self.mean_loss.update(loss, (mask_BHW != IGNORE_INDEX).sum())
        self.confusion.update(labels_BHW, mask_BHW)

    def scores(self) -> Scores:
        """`loss` and everything in `metrics.scores`."""
        loss = {"loss": float(self.mean_loss.compute())}
        return loss | scores(self.confusion.compute(), binary=self._binary)

    def reset(self) -> None:
        """Forgets everything."""
        self.confusion.reset()
        self.mean_loss.reset()
