"""Areas and thresholds from histograms are scikit-learn's from all the pixels, however scores crowd."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    jaccard_score,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)
from torch import Tensor

from segmentation.metrics import (
    ScoreHistogram,
    average_precision,
    best_threshold,
    pr_points,
    roc_auc,
    roc_points,
)
from segmentation.metrics.curves import bin_table, to_bins
from segmentation.types import IGNORE_INDEX

PIXELS = 40_000

ROUNDINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "float32": lambda logits: logits.sigmoid(),
    "bfloat16 logits": lambda logits: logits.bfloat16().float().sigmoid(),
    "bfloat16": lambda logits: logits.sigmoid().bfloat16().float(),
    "float16": lambda logits: logits.sigmoid().half().float(),
    "8 bit": lambda logits: (logits.sigmoid() * 255).round() / 255,
}


def drawn(spread: float, share: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits and truth: `spread` 60 saturates float32 at both ends."""
    generator = torch.Generator().manual_seed(seed)
    truth = (torch.rand(PIXELS, generator=generator) < share).byte()
    return (torch.randn(PIXELS, generator=generator) + 1.5 * truth) * spread, truth


def counted(probabilities: Tensor, truth: Tensor) -> Tensor:
    metric = ScoreHistogram(1)
    metric.update(probabilities.reshape(1, 1, 1, -1), truth.reshape(1, 1, -1))
    return metric.compute()


def test_a_probability_above_one_is_the_surest() -> None:
    """Tiles that blend give some: their weights add up to one but for rounding."""
    highest = torch.tensor([1.0, 1 + 2**-23, 1 + 2**-22])
    first, *others = to_bins(highest, bin_table()).tolist()
    assert others == [first, first]


@pytest.mark.parametrize("share", [0.5, 0.01])
@pytest.mark.parametrize("spread", [0.5, 1, 5, 20, 60])
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_areas_and_best_scores_are_scikit_learns(rounding: str, spread: float, share: float) -> None:
    logits, truth = drawn(spread, share)
    probabilities = ROUNDINGS[rounding](logits)
    counts = counted(probabilities, truth)
    assert float(roc_auc(counts)) == pytest.approx(roc_auc_score(truth, probabilities), abs=1e-4)
    area = average_precision_score(truth, probabilities)
    assert float(average_precision(counts)) == pytest.approx(area, abs=1e-4)
    precision, recall, _ = precision_recall_curve(truth, probabilities)
    f1 = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-9))
    assert best_threshold(counts[0]).f1 == pytest.approx(f1, abs=1e-4)


@pytest.mark.parametrize("span", [(0.2, 0.3), (0.3, 0.5), (0.4, 0.6), (0.5, 0.9)])
@pytest.mark.parametrize("share", [0.2, 0.0005])
def test_rare_positives_in_a_narrow_range_are_scikit_learns(span: tuple[float, float], share: float) -> None:
    generator = torch.Generator().manual_seed(1)
    truth = (torch.rand(2 * 10**5, generator=generator) < share).byte()
    part = torch.rand(truth.shape, generator=generator) * 0.8 + 0.2 * truth
    probabilities = span[0] + (span[1] - span[0]) * part
    counts = counted(probabilities, truth)
    assert float(roc_auc(counts)) == pytest.approx(roc_auc_score(truth, probabilities), abs=1e-5)
    area = average_precision_score(truth, probabilities)
    assert float(average_precision(counts)) == pytest.approx(area, abs=1e-4)
    precision, recall, _ = precision_recall_curve(truth, probabilities)
    f1 = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-9))
    assert best_threshold(counts[0]).f1 == pytest.approx(f1, abs=1e-4)


def test_few_positives_below_a_crowd_of_negatives_have_an_area() -> None:
    # The highest bins hold no positive, and those that do hold one each.
    probabilities = torch.linspace(0.6, 0.6 + 2**-10, 300)
    truth = torch.zeros(300, dtype=torch.uint8)
    truth[[20, 150, 280]] = 1
    area = average_precision_score(truth, probabilities)
    assert float(average_precision(counted(probabilities, truth))) == pytest.approx(area, abs=2e-3)


@pytest.mark.parametrize("spread", [1, 20, 60])
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_the_best_threshold_gives_the_scores_it_promises(rounding: str, spread: float) -> None:
    logits, truth = drawn(spread, share=0.2)
    probabilities = ROUNDINGS[rounding](logits)
    best = best_threshold(counted(probabilities, truth)[0])
    assert 0 <= best.threshold <= 1
    chosen = probabilities >= best.threshold
    assert best.f1 == pytest.approx(f1_score(truth, chosen))
    assert best.iou == pytest.approx(jaccard_score(truth, chosen))


scores = st.floats(0, 1, width=32)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(scores, st.sampled_from([0, 1, 1, IGNORE_INDEX])), min_size=1, max_size=12))
def test_any_few_scores_keep_their_order(pairs: list[tuple[float, int]]) -> None:
    probabilities, truth = (
        torch.tensor([pair[0] for pair in pairs]),
        torch.tensor([pair[1] for pair in pairs]),
    )
    counts = counted(probabilities, truth.byte())
    valid = truth != IGNORE_INDEX
    assert counts.sum() == valid.sum()
    best = best_threshold(counts[0])
    if not (truth == 1).any():
        assert math.isnan(best.threshold)
        return
    chosen = probabilities[valid] >= best.threshold
    assert best.f1 == pytest.approx(f1_score(truth[valid], chosen, zero_division=0))


@settings(deadline=None, max_examples=60)
@given(scores, scores)
def test_bins_ascend_with_the_probability(one: float, other: float) -> None:
    low, high = sorted((one, other))
    bins = [
        int(counted(torch.tensor([value]), torch.tensor([0]).byte()).nonzero()[0, 2]) for value in (low, high)
    ]
    assert bins[0] <= bins[1]


@pytest.mark.parametrize("value", [0.0, 1e-30, 0.3, 0.5, 1 - 2**-24, 1.0])
def test_a_constant_score_decides_nothing(value: float) -> None:
    truth = torch.tensor([1] * 3 + [0] * 7).byte()
    counts = counted(torch.full((10,), value), truth)
    assert float(roc_auc(counts)) == 0.5
    assert float(average_precision(counts)) == pytest.approx(0.3)
    best = best_threshold(counts[0])
    assert best.f1 == pytest.approx(2 * 3 / 13)
    assert 0 <= best.threshold <= value


def test_without_positives_or_negatives_what_is_undefined_is_nan() -> None:
    probabilities = torch.rand(50)
    none, every = (counted(probabilities, torch.full((50,), label).byte()) for label in (0, 1))
    assert math.isnan(roc_auc(none)) and math.isnan(roc_auc(every))
    assert math.isnan(average_precision(none)) and float(average_precision(every)) == pytest.approx(1)
    assert all(math.isnan(value) for value in best_threshold(none[0]))
    assert best_threshold(every[0]).f1 == 1
    assert roc_points(none[0]) == roc_points(every[0])
    assert not any(roc_points(none[0]).values()) and not any(pr_points(none[0]).values())
    assert set(pr_points(every[0])["precision"]) == {1.0}


def test_perfect_scores_are_cut_in_the_middle() -> None:
    best = best_threshold(counted(torch.tensor([0.1, 0.1, 0.9]), torch.tensor([0, 0, 1]).byte())[0])
    assert best.f1 == best.iou == 1
    assert best.threshold == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("spread", [1, 20])
def test_points_lie_on_scikit_learns_curves(spread: float) -> None:
    logits, truth = drawn(spread, share=0.2)
    probabilities = logits.sigmoid()
    counts = counted(probabilities, truth)[0]
    roc, pr = roc_points(counts), pr_points(counts)
    columns = [*roc.values(), *pr.values()]
    assert all(10 < len(column) <= 1000 for column in columns)
    assert (roc["false_positive_rate"][0], roc["true_positive_rate"][0], roc["threshold"][0]) == (
        0,
        0,
        math.inf,
    )
    assert roc["false_positive_rate"][-1] == roc["true_positive_rate"][-1] == pr["recall"][-1] == 1
    for place in range(1, len(roc["threshold"]), 37):
        chosen = probabilities >= roc["threshold"][place]
        assert roc["true_positive_rate"][place] == pytest.approx(float(chosen[truth == 1].float().mean()))
        assert roc["false_positive_rate"][place] == pytest.approx(float(chosen[truth == 0].float().mean()))
    for place in range(0, len(pr["threshold"]), 37):
        chosen = probabilities >= pr["threshold"][place]
        assert pr["precision"][place] == pytest.approx(float(truth[chosen].float().mean()))
        assert pr["recall"][place] == pytest.approx(float(chosen[truth == 1].float().mean()))
    false, true, _ = roc_curve(truth, probabilities)
    drawn_there = np.interp(false, roc["false_positive_rate"], roc["true_positive_rate"])
    assert np.trapezoid(np.abs(drawn_there - true), false) < 2e-3


def test_one_against_the_rest() -> None:
    generator = torch.Generator().manual_seed(3)
    probabilities = torch.randn(2, 4, 60, 70, generator=generator).mul(4).softmax(1)
    mask = torch.randint(3, (2, 60, 70), generator=generator).byte()  # class 3 does not occur
    mask[torch.rand(mask.shape, generator=generator) < 0.2] = IGNORE_INDEX
    metric = ScoreHistogram(4)
    metric.update(probabilities, mask)
    counts = metric.compute()
    valid = mask != IGNORE_INDEX
    assert counts.sum((1, 2)).tolist() == [int(valid.sum())] * 4
    for label in range(3):
        truth, score = mask[valid] == label, probabilities[:, label][valid]
        assert float(roc_auc(counts)[label]) == pytest.approx(roc_auc_score(truth, score), abs=1e-4)
        area = average_precision_score(truth, score)
        assert float(average_precision(counts)[label]) == pytest.approx(area, abs=1e-4)
    assert roc_auc(counts)[3].isnan() and average_precision(counts)[3].isnan()


def test_scores_that_are_not_numbers_count_nowhere() -> None:
    counts = counted(torch.tensor([math.nan, 0.2, 0.9]), torch.tensor([1, 0, 1]).byte())
    assert counts.sum((0, 2)).tolist() == [1, 1]
