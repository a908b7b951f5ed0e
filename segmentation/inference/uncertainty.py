"""How unsure a prediction is: the entropy of its probabilities, and how much those who vote on it disagree.

Both are linear in what a predictor averages, or come from two such values, so they go through test-time augmentation,
several models and blended tiles as the probabilities do.
"""

import math

import torch
from torch import Tensor

from segmentation.errors import UserError
from segmentation.models import Decision


def entropy(probabilities_BKHW: Tensor, decision: Decision) -> Tensor:
    """float32 (B, H, W) in 0..1: 0 for a certain class, 1 where all classes are as probable.

    Of a softmax -sum_k p_k log p_k / log K; of sigmoids, each a question of its own, the mean of their entropies.
    """
    outputs = probabilities_BKHW.shape[1]
    if decision.independent:
        both_BKHW = torch.special.entr(probabilities_BKHW) + torch.special.entr(1 - probabilities_BKHW)
        return both_BKHW.mean(dim=1) / math.log(2)
    return torch.special.entr(probabilities_BKHW).sum(dim=1) / math.log(outputs)


def check_voters(voters: int) -> None:
    """Raises `UserError` for a single one."""
    if voters < 2:
        raise UserError(
            "One model with one view cannot disagree: give checkpoint=[A,B] with ensemble=mean, or views such as"
            " tta=flip."
        )


def disagreement(found_BKHW: Tensor, decision: Decision, voters: int) -> Tensor:
    """float32 (B, H, W) in 0..1: 0 where all voters give the same probabilities, 1 where each is sure of another class.

    `found_BKHW` has the mean of their probabilities, and the mean of their entropies as the last plane. The entropy of
    the mean less the mean of the entropies is the mutual information of the label and the voter (BALD: Houlsby et al.
    2011, "Bayesian active learning for classification and preference learning", eq. 2), which is the mean divergence
    of the voters from their mean, too (Lakshminarayanan et al. 2017). It is divided by the largest that it can be,
    log min(voters, K) in the unit of `entropy`. Raises `UserError` for a single voter.
    """
    check_voters(voters)
    outputs = found_BKHW.shape[1] - 1
    spread_BHW = entropy(found_BKHW[:, :-1], decision) - found_BKHW[:, -1]
    if not decision.independent:
        spread_BHW = spread_BHW * (math.log(outputs) / math.log(min(voters, outputs)))
    return spread_BHW.clamp(0, 1)
