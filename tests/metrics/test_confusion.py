"""Confusion counts, and the scores of a data set, of classes and of images, against scikit-learn."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as judge
from sklearn.metrics import confusion_matrix
from torch import Tensor

from segmentation.metrics import (
    ConfusionMatrix,
    MeanLoss,
    constant_baseline,
    image_counts,
    image_means,
    image_scores,
    per_class,
    scores,
)
from segmentation.metrics.confusion import columns
from segmentation.types import IGNORE_INDEX


def pixels(seed: int, classes: int, *, batch: int = 6, ignored: float = 0.2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, 5, 7)
    labels = torch.randint(classes, shape, generator=generator, dtype=torch.uint8)
    mask = torch.randint(classes, shape, generator=generator, dtype=torch.uint8)
    mask[torch.rand(shape, generator=generator) < ignored] = IGNORE_INDEX
    return labels, mask


def expected(labels: Tensor, mask: Tensor, classes: int) -> np.ndarray:
    valid = mask != IGNORE_INDEX
    return confusion_matrix(mask[valid], labels[valid], labels=list(range(classes)))


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 10**6),
    classes=st.sampled_from([2, 3, 21, 255]),
    cuts=st.lists(st.integers(1, 5), max_size=4, unique=True),
)
def test_any_split_into_batches_counts_as_scikit_learn(seed: int, classes: int, cuts: list[int]) -> None:
    labels, mask = pixels(seed, classes)
    metric = ConfusionMatrix(classes)
    edges = [0, *sorted(cuts), len(labels)]
    for start, end in pairwise(edges):
        metric.update(image_counts(labels[start:end], mask[start:end], classes))
    counts = metric.compute()
    assert counts.dtype == torch.int64
    np.testing.assert_array_equal(counts.numpy(), expected(labels, mask, classes))


def test_rows_are_truth_and_columns_prediction() -> None:
    metric = ConfusionMatrix(3)
    labels, mask = (torch.tensor([[row]]).byte() for row in ([2, 2, 0], [1, 1, IGNORE_INDEX]))
    metric.update(image_counts(labels, mask, 3))
    assert metric.compute().tolist() == [[0, 0, 0], [0, 0, 2], [0, 0, 0]]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_the_integer_type_of_a_mask_does_not_matter(dtype: torch.dtype) -> None:
    labels, mask = pixels(0, 255)
    metric = ConfusionMatrix(255)
    metric.update(image_counts(labels, mask.to(dtype), 255))
    np.testing.assert_array_equal(metric.compute().numpy(), expected(labels, mask, 255))


def test_two_processes_add_up_to_one() -> None:
    labels, mask = pixels(1, 4)
    parts = [ConfusionMatrix(4), ConfusionMatrix(4)]
    for part, rows in zip(parts, (slice(0, 2), slice(2, None)), strict=True):
        part.update(image_counts(labels[rows], mask[rows], 4))
    parts[0].merge_state(parts[1])
    np.testing.assert_array_equal(parts[0].compute().numpy(), expected(labels, mask, 4))


def test_a_reset_forgets() -> None:
    labels, mask = pixels(2, 4)
    metric = ConfusionMatrix(4)
    for _ in range(2):
        metric.reset()
        metric.update(image_counts(labels, mask, 4))
    np.testing.assert_array_equal(metric.compute().numpy(), expected(labels, mask, 4))


def test_counting_is_allowed_where_determinism_is_demanded() -> None:
    labels, mask = pixels(3, 4)
    metric = ConfusionMatrix(4)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        metric.update(image_counts(labels, mask, 4))
    finally:
        torch.use_deterministic_algorithms(before)
    assert metric.compute().sum() == (mask != IGNORE_INDEX).sum()


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 10**6)), min_size=1, max_size=8))
def test_a_mean_loss_is_the_mean_by_weights(batches: list[tuple[float, int]]) -> None:
    metric = MeanLoss()
    for value, weight in batches:
        metric.update(torch.tensor(value), torch.tensor(weight))
    total = sum(weight for _, weight in batches)
    shares = sum(float(torch.tensor(value)) * weight for value, weight in batches)
    mean = float(metric.compute())
    assert mean == pytest.approx(shares / total, rel=1e-12) if total else math.isnan(mean)


def test_a_mean_loss_does_not_lose_small_parts_of_a_long_epoch() -> None:
    metric = MeanLoss()
    metric.update(1.0, 2**24)
    for _ in range(64):
        metric.update(1.0, 1.0)
    # In float32 the weight would stay at 2**24.
    assert float(metric.weight) == 2**24 + 64


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


@pytest.mark.parametrize("classes", [2, 5, 255])
def test_each_image_on_its_own(classes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    labels, mask = (torch.randint(classes, (5, 9, 11), generator=generator).byte() for _ in range(2))
    mask[torch.rand(mask.shape, generator=generator) < 0.2] = IGNORE_INDEX
    mask[3] = IGNORE_INDEX
    counts_BKK = image_counts(labels, mask, classes)
    rows = image_scores(counts_BKK, binary=classes == 2)
    table = columns(counts_BKK, binary=classes == 2)
    for index, row in enumerate(rows):
        valid = mask[index] != IGNORE_INDEX
        counts = np.zeros((classes, classes), int)
        np.add.at(counts, (mask[index][valid].numpy(), labels[index][valid].numpy()), 1)
        np.testing.assert_array_equal(counts_BKK[index].numpy(), counts)
        alone = scores(torch.from_numpy(counts), binary=classes == 2)
        assert row == pytest.approx({name: alone[name] for name in row}, nan_ok=True)
        among = {name: float(values[index]) for name, values in table.items()}
        assert among == pytest.approx(alone, nan_ok=True)
        assert ("iou" in row) == (classes == 2)
    assert all(math.isnan(value) for value in rows[3].values())


def test_mean_and_median_leave_out_what_is_undefined() -> None:
    values = [0.1, math.nan, 0.3, 0.8]
    rows = [{"miou": value, "dice": math.nan, "pixel_accuracy": 1.0} for value in values]
    means = image_means(rows, binary=False)
    assert means == pytest.approx(
        {
            "image_miou_mean": 0.4,
            "image_miou_median": 0.3,
            "image_dice_mean": math.nan,
            "image_dice_median": math.nan,
            "image_pixel_accuracy_mean": 1,
            "image_pixel_accuracy_median": 1,
        },
        nan_ok=True,
    )


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("seed", range(3))
def test_no_constant_prediction_beats_the_baseline(classes: int, seed: int) -> None:
    labels, mask = pixels(seed, classes)
    names = [f"class {label}" for label in range(classes)]
    main = "iou" if classes == 2 else "miou"
    counts_KK = image_counts(labels, mask, classes).sum(0)
    found = constant_baseline(counts_KK, names, binary=classes == 2)
    constants = [
        scores(image_counts(torch.full_like(labels, label), mask, classes).sum(0), binary=classes == 2)
        for label in range(classes)
    ]
    assert found["metrics"] == pytest.approx(constants[names.index(found["everywhere"])], nan_ok=True)
    assert found["metrics"][main] == max(each[main] for each in constants)
    assert found["model_predicts_only"] is None
    only = image_counts(torch.ones_like(labels), mask, classes).sum(0)
    assert constant_baseline(only, names, binary=classes == 2)["model_predicts_only"] == "class 1"
