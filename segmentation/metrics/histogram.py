"""Scores by truth, in constant memory: what ROC and precision-recall curves are drawn from."""

import torch
from torch import Tensor
from torchmetrics import Metric

from segmentation.functional import is_ignored
from segmentation.metrics.bins import bin_table, num_bins, to_bins
from segmentation.metrics.slabs import slabs


class ScoreHistogram(Metric):
    """Counts of pixels, int64 (K, 2, N): for each of `num_scores` probabilities negatives, then positives, by bin.

    One score is the foreground's, and label 1 is positive; several are one-vs-rest, label k positive for the kth.
    Bins ascend with the probability (`metrics.bins`). Sums of whole numbers: the same for any order, any batch
    size and any number of processes.
    """

    is_differentiable = False
    full_state_update = False
    counts: Tensor
    table: Tensor

    def __init__(self, num_scores: int) -> None:
        super().__init__()
        self.num_scores = num_scores
        # What counts nowhere has cells of its own, cut off in the end: for nan one in each row, for 255 one past all.
        self._row = num_bins() + 1
        self._past = num_scores * 2 * self._row
        counts = torch.zeros(num_scores, 2, num_bins(), dtype=torch.int64)
        self.add_state("counts", default=counts, dist_reduce_fx="sum")
        self.register_buffer("table", bin_table(), persistent=False)

    def update(self, probabilities_BKHW: Tensor, mask_BHW: Tensor) -> None:
        """Counts probabilities (0..1) against the truth; pixels whose truth is 255 and nan scores are left out."""
        cells = torch.cat([self._cells(*slab) for slab in slabs(probabilities_BKHW, mask_BHW)])
        counts = torch.bincount(cells, minlength=self._past + 1)[:-1]
        self.counts += counts.view(self.num_scores, 2, self._row)[..., :-1]

    def compute(self) -> Tensor:
        """The counts of everything seen, (K, 2, N) int64."""
        return self.counts

    def _cells(self, probabilities_BKP: Tensor, mask_BP: Tensor) -> Tensor:
        mask_B1P = mask_BP[:, None]
        ignored_B1P = is_ignored(mask_B1P)
        cells_BKP = to_bins(probabilities_BKP, self.table).view(probabilities_BKP.shape)
        scores_K = torch.arange(self.num_scores, dtype=torch.int32, device=cells_BKP.device)
        cells_BKP += scores_K[:, None] * (2 * self._row)
        if self.num_scores == 1:
            cells_BKP += mask_B1P.to(torch.int32) * self._row
        else:
            truth_B1P = mask_B1P.long() * ~ignored_B1P
            cells_BKP.scatter_add_(1, truth_B1P, torch.full_like(cells_BKP[:, :1], self._row))
        # As a sum and a limit: choosing pixel by pixel takes several times as long.
        cells_BKP += ignored_B1P.to(torch.int32) * self._past
        return cells_BKP.clamp_max_(self._past).flatten()
