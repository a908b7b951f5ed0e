"""Brier scores and reliability against scikit-learn and a plain calculation."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from sklearn.metrics import brier_score_loss
from torch import Tensor, nn

from segmentation.errors import UserError
from segmentation.metrics import Calibration, Temperature
from segmentation.models import Decision
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


KINDS = [Decision(True), Decision(False), Decision(False, one_vs_rest=True)]


def drawn(decision: Decision, temperature: float, images: int = 4) -> tuple[Tensor, Tensor]:
    """Logits of a model that is too sure by the factor `temperature`, and the truth drawn from the right ones."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(images, 1 if decision.binary else 3, 160, 160, generator=generator) * 2
    likely = replace(decision, one_vs_rest=False).probabilities(logits).movedim(1, -1)
    if decision.binary:
        truth = torch.bernoulli(likely[..., 0], generator=generator)
    else:
        truth = torch.multinomial(likely.flatten(0, 2), 1, generator=generator).view(likely.shape[:3])
    truth = truth.byte()
    truth[:, :40] = IGNORE_INDEX
    logits[:, :, :40] = math.nan  # what is ignored must not count
    return logits * temperature, truth


@pytest.mark.parametrize("decision", KINDS[:2])
@pytest.mark.parametrize("temperature", [0.4, 1, 2.5])
def test_the_temperature_is_found(decision: Decision, temperature: float) -> None:
    logits, truth = drawn(decision, temperature, images=12)
    fit = Temperature(independent=decision.independent)
    fit.update(logits, truth)
    found = fit.compute()
    assert found == pytest.approx(temperature, rel=0.05)  # of 14,400 drawn pixels
    valid = truth[:, ::4, ::4] != IGNORE_INDEX
    rows, target = logits[:, :, ::4, ::4].movedim(1, -1)[valid].double(), truth[:, ::4, ::4][valid].long()

    def loss(value: float) -> float:
        scaled = rows / value
        if decision.binary:
            return float(nn.functional.binary_cross_entropy_with_logits(scaled[:, 0], target.double()))
        return float(nn.functional.cross_entropy(scaled, target))

    best = minimize_scalar(loss, bounds=(0.1, 10), method="bounded").x
    assert found == pytest.approx(best, rel=2e-3)

    calibrated, errors = decision.at_temperature(found), []
    for one in (decision, calibrated):
        metric = Calibration(binary=decision.binary)
        metric.update(one.probabilities(logits), one.labels(logits), truth)
        errors.append(float(metric.compute()["calibration_error"]))
    assert errors[1] < 0.01
    assert temperature == 1 or errors[0] > 5 * errors[1]


@pytest.mark.parametrize("decision", KINDS)
def test_the_temperature_is_the_same_for_any_batches_and_blocks(decision: Decision) -> None:
    logits, truth = drawn(decision, 2)
    fits = [Temperature(independent=decision.independent) for _ in range(3)]
    fits[0].update(logits, truth)
    for index in range(4):
        fits[1].update(logits[index : index + 1], truth[index : index + 1])
    for top, left in product((0, 77), (0, 30)):
        rows, columns = slice(top, 77 if top == 0 else None), slice(left, 30 if left == 0 else None)
        fits[2].update(logits[:, :, rows, columns], truth[:, rows, columns], top, left)
    assert fits[0].compute() == fits[1].compute() == fits[2].compute()
    assert all(torch.equal(fit.loss, fits[0].loss) for fit in fits)


def test_no_temperature_without_truth() -> None:
    fit = Temperature(independent=True)
    fit.update(torch.zeros(1, 1, 8, 8), torch.full((1, 8, 8), IGNORE_INDEX).byte())
    with pytest.raises(UserError, match="No pixel of the val split is labelled"):
        fit.compute()


@pytest.mark.parametrize("decision", [*KINDS, Decision(True, 0.2), Decision(True, 0), Decision(True, 1)])
def test_a_temperature_keeps_the_labels(decision: Decision) -> None:
    logits = torch.randn(2, 1 if decision.binary else 4, 20, 20) * 3
    calibrated = decision.at_temperature(2.5)
    labels = decision.labels(logits)
    assert torch.equal(calibrated.labels(logits), labels)
    probabilities = calibrated.probabilities(logits)
    assert torch.equal(calibrated.most_probable(probabilities), labels)
    torch.testing.assert_close(calibrated.uncalibrated(probabilities), decision.probabilities(logits))
    torch.testing.assert_close(
        decision.probabilities(calibrated.logits(probabilities)), decision.probabilities(logits)
    )
    assert calibrated.at_temperature(1).threshold == pytest.approx(decision.threshold)
    assert Decision(True, 1e-300, temperature=100.0).at_temperature(0.01).threshold == 0
