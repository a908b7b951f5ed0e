"""What is counted of a split in training and in evaluation, and the scores derived from it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from segmentation.metrics.boundary import BoundaryCounts, boundary_iou
from segmentation.metrics.calibration import BINS, Calibration
from segmentation.metrics.confusion import ConfusionMatrix, MeanLoss, Scores, image_counts, per_class, scores
from segmentation.metrics.curves import (
    ScoreHistogram,
    average_precision,
    best_threshold,
    pr_points,
    roc_auc,
    roc_points,
)
from segmentation.types import is_ignored


class TrainingMetrics(nn.Module):
    """Confusion counts and mean loss of a split in a training run (train, val or test), weighted by valid pixels."""

    def __init__(self, num_classes: int, *, binary: bool) -> None:
        super().__init__()
        self.confusion = ConfusionMatrix(num_classes)
        self.mean_loss = MeanLoss()
        self._num_classes = num_classes
        self._binary = binary

    def update(self, loss: Tensor, labels_BHW: Tensor, mask_BHW: Tensor) -> None:
        """Adds predicted labels with their truth, and their mean loss over valid pixels."""
        self.mean_loss.update(loss, (~is_ignored(mask_BHW)).sum())
        self.confusion.update(image_counts(labels_BHW, mask_BHW, self._num_classes))

    def scores(self) -> Scores:
        """`loss` and everything in `metrics.scores`."""
        loss = {"loss": float(self.mean_loss.compute())}
        return loss | scores(self.confusion.compute(), binary=self._binary)

    def counts(self) -> dict[str, Tensor]:
        """This process's counts: the tensors themselves, not copies, by name."""
        return {
            "confusion": self.confusion.counts,
            "loss": self.mean_loss.total,
            "pixels": self.mean_loss.weight,
        }

    def resume(self, counts: Mapping[str, Tensor]) -> None:
        """Continues from the `counts` of an interrupted epoch; pass none where another process has them."""
        empty = torch.zeros(0, 1, 1, dtype=torch.uint8, device=self.confusion.counts.device)
        self.update(empty.sum(), empty, empty)  # torchmetrics warns when compute comes before any update
        for name, count in counts.items():
            self.counts()[name].copy_(count)

    def reset(self) -> None:
        """Sets all counts to zero."""
        self.confusion.reset()
        self.mean_loss.reset()


class EvaluationMetrics(nn.Module):
    """All counts of a split; every score is derived from them once, at the end.

    `num_classes` is 2 for binary data, whose single probability is the foreground's. `uncalibrated` turns the
    probabilities of a model with a temperature into those without it, whose calibration is counted, too.
    """

    def __init__(
        self, num_classes: int, *, binary: bool, uncalibrated: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        super().__init__()
        self.confusion = ConfusionMatrix(num_classes)
        self.histogram = ScoreHistogram(1 if binary else num_classes)
        self.calibration = Calibration(binary=binary)
        self.before = Calibration(binary=binary) if uncalibrated else None
        self._uncalibrated = uncalibrated
        self.boundary = BoundaryCounts(num_classes)
        self._num_classes = num_classes
        self._binary = binary

    @torch.no_grad()
    def update(self, probabilities_BKHW: Tensor, labels_BHW: Tensor, mask_BHW: Tensor) -> Tensor:
        """Adds images of one size: probabilities 0..1, the labels predicted from them, and the truth.

        Returns each image's own confusion matrix (`metrics.image_counts`).
        """
        counts_BKK = image_counts(labels_BHW, mask_BHW, self._num_classes)
        self.confusion.update(counts_BKK)
        self.histogram.update(probabilities_BKHW, mask_BHW)
        self.calibration.update(probabilities_BKHW, labels_BHW, mask_BHW)
        if self.before is not None and self._uncalibrated is not None:
            self.before.update(self._uncalibrated(probabilities_BKHW), labels_BHW, mask_BHW)
        self.boundary.update(labels_BHW, mask_BHW)
        return counts_BKK

    def scores(self) -> Scores:
        """`metrics.scores`, and `roc_auc`, `pr_auc`, `boundary_iou`, `brier`, `calibration_error`.

        Areas and boundary IoU are means over the classes where they are defined; for binary data they are the
        foreground's, with `best_threshold_f1`, `best_f1`, `best_threshold_iou`, `best_iou`. With a temperature
        `brier_before` and `calibration_error_before` are those without it.
        """
        calibration = self.calibration.compute()
        values = scores(self.confusion.compute(), binary=self._binary)
        for name, by_class in self._by_class().items():
            values[name] = float(by_class[1] if self._binary else by_class.nanmean())
        values |= {name: float(calibration[name]) for name in ("brier", "calibration_error")}
        if self.before is not None:
            before = self.before.compute()
            values |= {f"{name}_before": float(before[name]) for name in ("brier", "calibration_error")}
        if self._binary:
            best = best_threshold(self.histogram.compute()[0])
            values |= {"best_threshold_f1": best.threshold, "best_f1": best.f1}
            values |= {"best_threshold_iou": best.threshold, "best_iou": best.iou}
        return values

    def per_class(self, names: Sequence[str]) -> dict[str, Scores]:
        """`metrics.per_class` with each class's `roc_auc`, `pr_auc` (one-vs-rest) and `boundary_iou`."""
        rows = per_class(self.confusion.compute(), names)
        for column, by_class in self._by_class().items():
            for row, value in zip(rows.values(), by_class.tolist(), strict=True):
                row[column] = value
        return rows

    def curves(self) -> dict[str, list[dict[str, Any]]]:
        """`roc` and `pr`: the columns of a curve (`metrics.curves`) for the foreground, or for each class.

        `reliability`: rows of `low`, `high`, `confidence`, `accuracy`, `pixels` (`metrics.calibration`); with a
        temperature also `confidence_before`, `accuracy_before` and `pixels_before` it.
        """
        counts_K2N = self.histogram.compute()
        tables = {"": self.calibration.compute()}
        if self.before is not None:
            tables["_before"] = self.before.compute()
        columns = {
            f"{name}{when}": table[name].tolist()
            for when, table in tables.items()
            for name in ("confidence", "accuracy", "pixels")
        }
        return {
            "roc": [roc_points(counts_2N) for counts_2N in counts_K2N],
            "pr": [pr_points(counts_2N) for counts_2N in counts_K2N],
            "reliability": [
                {"low": index / BINS, "high": (index + 1) / BINS}
                | {name: values[index] for name, values in columns.items()}
                for index in range(BINS)
            ],
        }

    def reset(self) -> None:
        """Sets all counts to zero."""
        for metric in (self.confusion, self.histogram, self.calibration, self.before, self.boundary):
            if metric is not None:
                metric.reset()

    def _by_class(self) -> dict[str, Tensor]:
        counts_K2N = self.histogram.compute()
        if self._binary:  # the background's score is 1 - p, and its positives are the foreground's negatives
            counts_K2N = torch.cat([counts_K2N.flip(1, 2), counts_K2N])
        return {
            "roc_auc": roc_auc(counts_K2N),
            "pr_auc": average_precision(counts_K2N),
            "boundary_iou": boundary_iou(self.boundary.compute()),
        }
