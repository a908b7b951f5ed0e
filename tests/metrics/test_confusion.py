"""Counts are scikit-learn's, whatever the batches and the processes."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix
from torch import Tensor

from segmentation.metrics import ConfusionMatrix, MeanLoss, image_counts
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
