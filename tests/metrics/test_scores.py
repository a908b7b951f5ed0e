"""Scores are scikit-learn's over the same pixels, and nan where there is nothing to judge."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as judge
from torch import Tensor

from segmentation.metrics import image_counts, per_class, scores
from segmentation.types import IGNORE_INDEX

NAMES = {
    "miou",
    "pixel_accuracy",
    "mean_accuracy",
    "fw_iou",
    "dice",
    "precision",
    "recall",
    "f1",
    "classes_counted",
}


def counted(labels: Sequence[int], mask: Sequence[int], classes: int) -> Tensor:
    return image_counts(torch.tensor([[labels]]).byte(), torch.tensor([[mask]]).byte(), classes)[0]


def many(classes: int) -> st.SearchStrategy[list[tuple[int, int]]]:
    label = st.integers(0, classes - 1)
    return st.lists(st.tuples(label, label | st.just(IGNORE_INDEX)), min_size=1, max_size=40)


def nanmean(values: Sequence[float]) -> float:
    return float(np.mean([value for value in values if not math.isnan(value)] or [math.nan]))


@settings(deadline=None, max_examples=40)
@given(many(5))
def test_several_classes_are_judged_as_scikit_learn_does(pairs: list[tuple[int, int]]) -> None:
    predicted, truth = zip(*pairs, strict=True)
    valid = [(label, true) for label, true in pairs if true != IGNORE_INDEX]
    values = scores(counted(predicted, truth, 5), binary=False)
    assert values.keys() == NAMES
    if not valid:
        assert values.pop("classes_counted") == 0
        assert all(math.isnan(value) for value in values.values())
        return
    labels, mask = zip(*valid, strict=True)
    seen = sorted({*labels, *mask})
    precision, recall, f1, pixels = judge.precision_recall_fscore_support(
        mask, labels, labels=seen, zero_division=np.nan
    )
    jaccard = judge.jaccard_score(mask, labels, labels=seen, average=None)
    expected = {
        "miou": jaccard.mean(),
        "pixel_accuracy": judge.accuracy_score(mask, labels),
        "mean_accuracy": nanmean(recall),
        "fw_iou": (jaccard * pixels).sum() / pixels.sum(),
        "precision": nanmean(precision),
        "recall": nanmean(recall),
        "f1": f1.mean(),
        "dice": f1.mean(),
        "classes_counted": len(seen),
    }
    assert values == pytest.approx(expected, nan_ok=True)


@settings(deadline=None, max_examples=40)
@given(many(2))
def test_binary_scores_are_those_of_the_foreground(pairs: list[tuple[int, int]]) -> None:
    predicted, truth = zip(*pairs, strict=True)
    values = scores(counted(predicted, truth, 2), binary=True)
    assert values.keys() == NAMES | {"iou", "specificity"}
    valid = [(label, true) for label, true in pairs if true != IGNORE_INDEX]
    labels, mask = zip(*valid, strict=True) if valid else ((), ())
    foreground = {"labels": [1], "average": None, "zero_division": np.nan}
    if 1 in labels or 1 in mask:
        (iou,) = judge.jaccard_score(mask, labels, labels=[1], average=None)
        (precision,), (recall,), (f1,), _ = judge.precision_recall_fscore_support(mask, labels, **foreground)
    else:
        iou = precision = recall = f1 = math.nan
    assert values["iou"] == pytest.approx(iou, nan_ok=True)
    assert values["precision"] == pytest.approx(precision, nan_ok=True)
    assert values["recall"] == pytest.approx(recall, nan_ok=True)
    assert [values["dice"], values["f1"]] == pytest.approx([f1, f1], nan_ok=True)
    negatives = sum(true == 0 for true in mask)
    left_alone = sum(label == true == 0 for label, true in valid)
    assert values["specificity"] == pytest.approx(
        left_alone / negatives if negatives else math.nan, nan_ok=True
    )


def test_by_hand() -> None:
    counts = torch.tensor([[3, 1], [2, 4]])
    values = scores(counts, binary=True)
    assert values == pytest.approx(
        {
            "miou": (3 / 6 + 4 / 7) / 2,
            "iou": 4 / 7,
            "pixel_accuracy": 0.7,
            "mean_accuracy": (3 / 4 + 4 / 6) / 2,
            "fw_iou": 0.4 * 3 / 6 + 0.6 * 4 / 7,
            "dice": 8 / 11,
            "f1": 8 / 11,
            "precision": 4 / 5,
            "recall": 4 / 6,
            "specificity": 3 / 4,
            "classes_counted": 2,
        }
    )


def test_a_class_in_neither_truth_nor_prediction_does_not_count() -> None:
    values = scores(counted([0, 1, 1], [0, 1, 1], classes=21), binary=False)
    assert values["miou"] == 1
    assert values["classes_counted"] == 2


def test_a_class_that_is_only_predicted_counts_as_zero() -> None:
    values = scores(counted([0, 0, 1], [0, 0, 0], classes=21), binary=False)
    assert values["miou"] == pytest.approx((2 / 3 + 0) / 2)
    assert values["classes_counted"] == 2


@pytest.mark.parametrize("binary", [True, False])
def test_without_a_valid_pixel_nothing_is_known(binary: bool) -> None:
    values = scores(counted([0, 1], [IGNORE_INDEX, IGNORE_INDEX], classes=2), binary=binary)
    assert values.pop("classes_counted") == 0
    assert values
    assert all(math.isnan(value) for value in values.values())


def test_per_class_scores_carry_the_names_in_order() -> None:
    table = per_class(counted([0, 1, 1, 1], [0, 1, 0, 1], classes=3), ["sky", "road", "bird"])
    assert table["sky"] == pytest.approx(
        {"iou": 1 / 2, "dice": 2 / 3, "precision": 1, "recall": 1 / 2, "pixels": 2}
    )
    assert table["road"] == pytest.approx(
        {"iou": 2 / 3, "dice": 4 / 5, "precision": 2 / 3, "recall": 1, "pixels": 2}
    )
    assert table["bird"].pop("pixels") == 0
    assert all(math.isnan(value) for value in table["bird"].values())


def test_billions_of_pixels_are_still_exact() -> None:
    counts = torch.tensor([[2**33 + 1, 0], [1, 2**33]])
    assert scores(counts, binary=False)["pixel_accuracy"] == (2**34 + 1) / (2**34 + 2)
