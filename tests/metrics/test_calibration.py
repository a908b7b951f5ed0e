"""Brier scores and reliability against scikit-learn and a plain calculation."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss
from torch import Tensor

from segmentation.metrics import Calibration
from segmentation.types import IGNORE_INDEX


def pixels(classes: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (3, 40, 50)
    logits = torch.randn(3, 1 if classes == 2 else classes, 40, 50, generator=generator) * 3
    probabilities = logits.sigmoid() if classes == 2 else logits.softmax(1)
    labels = (probabilities[:, 0] >= 0.5) if classes == 2 else probabilities.argmax(1)
    mask = torch.randint(classes, shape, generator=generator).byte()
    mask[torch.rand(shape, generator=generator) < 0.2] = IGNORE_INDEX
    return probabilities, labels.byte(), mask


def plain(confidence: np.ndarray, right: np.ndarray) -> float:
    """The expected calibration error by its definition."""
    total = 0.0
    for low in range(15):
        inside = (confidence > low / 15) & (confidence <= (low + 1) / 15)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


@pytest.mark.parametrize("classes", [2, 3, 21])
def test_as_defined(classes: int) -> None:
    probabilities, labels, mask = pixels(classes)
    metric = Calibration(binary=classes == 2)
    metric.update(probabilities, labels, mask)
    values = metric.compute()
    valid = mask != IGNORE_INDEX
    scores = probabilities.movedim(1, -1)[valid].double().numpy()
    truth = mask[valid].numpy()
    if classes == 2:
        confidence, right = scores[:, 0], truth == 1
        brier = brier_score_loss(truth, scores[:, 0])
    else:
        confidence, right = scores.max(1), scores.argmax(1) == truth
        rows = scores / scores.sum(1, keepdims=True)
        brier = brier_score_loss(truth, rows, labels=list(range(classes)), scale_by_half=False)
    assert float(values["brier"]) == pytest.approx(brier, abs=1e-6)
    assert float(values["calibration_error"]) == pytest.approx(plain(confidence, right), abs=1e-6)
    assert int(values["pixels"].sum()) == len(truth)
    by_bin = (values["pixels"] * values["accuracy"]).nansum()
    assert float(by_bin) == pytest.approx(right.sum())


@pytest.mark.parametrize("label", [0, 1])
def test_sure_and_right(label: int) -> None:
    metric = Calibration(binary=True)
    mask = torch.full((1, 4, 4), label).byte()
    metric.update(mask[:, None].float(), mask, mask)
    values = metric.compute()
    assert values["brier"] == values["calibration_error"] == 0
    assert values["pixels"].tolist() == [16, *[0] * 14][:: -1 if label else 1]


@pytest.mark.parametrize("classes", [2, 3])
def test_what_is_ignored_or_not_a_number_leaves_nothing(classes: int) -> None:
    probabilities, labels, mask = pixels(classes)
    metric = Calibration(binary=classes == 2)
    metric.update(probabilities, labels, torch.full_like(mask, IGNORE_INDEX))
    metric.update(torch.full_like(probabilities, math.nan), labels, mask)
    values = metric.compute()
    assert int(values["pixels"].sum()) == 0
    assert values["brier"].isnan() and values["calibration_error"].isnan()
