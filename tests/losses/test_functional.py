"""Losses computed by hand, and compared with segmentation_models_pytorch where the definitions agree.

The comparison has no ignored pixels, because its focal loss and label smoothing then divide by all pixels, and every
class is present, because it counts an absent class as a loss of zero.
"""

import math
from collections.abc import Callable

import pytest
import torch
from segmentation_models_pytorch import losses as smp
from torch import Tensor, nn

from segmentation.losses import create_loss
from segmentation.types import IGNORE_INDEX

LOG2, LOG3, LOG4 = math.log(2), math.log(3), math.log(4)


def row(*pixels: tuple[float, ...]) -> Tensor:
    """Logits (1, K, 1, N) from the logits of N pixels."""
    return torch.tensor(pixels).T[None, :, None]


def labels(*values: int) -> Tensor:
    return torch.tensor([[values]], dtype=torch.uint8)


# Foreground probabilities 3/4, 1/4, 1/2 and, ignored, nearly 1.
BINARY = row((LOG3,), (-LOG3,), (0.0,), (9.0,))
BINARY_MASK = labels(1, 1, 0, IGNORE_INDEX)
# Probabilities (1/2, 1/4, 1/4), (1/6, 2/3, 1/6) of three classes, of which the third is absent.
THREE = row((LOG2, 0.0, 0.0), (0.0, LOG4, 0.0), (9.0, 0.0, 0.0))
THREE_MASK = labels(0, 1, IGNORE_INDEX)

BY_HAND = [
    ("bce", {}, (LOG4 - LOG3 + LOG4 + LOG2) / 3),
    ("bce", {"class_weights": [3, 1]}, (LOG4 - LOG3 + LOG4 + 3 * LOG2) / 5),
    ("bce", {"label_smoothing": 0.5}, (LOG4 - 0.75 * LOG3 + LOG4 - 0.25 * LOG3 + LOG2) / 3),
    ("cross_entropy", {}, (LOG4 - LOG3 + LOG4 + LOG2) / 3),
    ("focal", {"gamma": 1}, ((LOG4 - LOG3) / 4 + LOG4 * 3 / 4 + LOG2 / 2) / 3),
    ("focal", {"gamma": 0, "alpha": 0.2}, (0.2 * (LOG4 - LOG3 + LOG4) + 0.8 * LOG2) / 3),
    # TP = 3/4 + 1/4, FP = 1/2, FN = 1/4 + 3/4
    ("dice", {}, 1 - 2 / (2 + 0.5 + 1)),
    ("dice", {"smooth": 1}, 1 - (1 + 1) / (1 + 0.25 + 0.5 + 1)),
    ("tversky", {"alpha": 0.2, "beta": 0.6}, 1 - 1 / (1 + 0.1 + 0.6)),
    # The background beside it: TP = 1/2, FP = 1, FN = 1/2.
    ("dice", {"class_weights": [1, 3]}, ((1 - 1 / (1 + 1 + 0.5)) + 3 * (1 - 2 / 3.5)) / 4),
    # Hinges 1 + log 3 (foreground), 1 (background), 0: Jaccard losses 1/2, 2/3, 1.
    ("lovasz", {}, (1 + LOG3) * 1 / 2 + 1 * 1 / 6),
    (
        "bce_dice",
        {"pixel_weight": 2, "dice_weight": 0.5},
        2 * (2 * LOG4 - LOG3 + LOG2) / 3 + 0.5 * (1.5 / 3.5),
    ),
    ("ce_dice", {}, (2 * LOG4 - LOG3 + LOG2) / 3 + 1.5 / 3.5),
]


@pytest.mark.parametrize(("name", "options", "expected"), BY_HAND)
def test_binary_by_hand(name: str, options: dict[str, float], expected: float) -> None:
    loss = create_loss(name, binary=True, classes=2, **options)
    assert float(loss(BINARY, BINARY_MASK)) == pytest.approx(expected, rel=1e-5)


LOG6 = math.log(6)
BETS = sum(math.log(p) for p in (2 / 3, 1 / 2, 1 / 2, 1 / 2, 4 / 5, 1 / 2))
SQUARES = sum((1 - p) ** 2 * math.log(p) for p in (2 / 3, 1 / 2, 1 / 2, 1 / 2, 4 / 5, 1 / 2))


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("cross_entropy", {}, (LOG2 + math.log(1.5)) / 2),
        ("cross_entropy", {"class_weights": [1, 3, 7]}, (LOG2 + 3 * math.log(1.5)) / 4),
        (
            "cross_entropy",
            {"label_smoothing": 0.3},
            0.7 * (LOG2 + math.log(1.5)) / 2 + 0.1 * (LOG2 + 2 * LOG4 + math.log(1.5) + 2 * LOG6) / 2,
        ),
        ("bce", {}, -BETS / 6),
        ("focal", {"gamma": 2}, -SQUARES / 6),
        # Class 0: TP 1/2, FP 1/6, FN 1/2. Class 1: TP 2/3, FP 1/4, FN 1/3. The absent class does not count.
        ("dice", {}, 1 - (1 / (1 + 1 / 6 + 1 / 2) + (4 / 3) / (4 / 3 + 1 / 4 + 1 / 3)) / 2),
        (
            "tversky",
            {"alpha": 1, "beta": 0, "class_weights": [1, 2, 9]},
            1 - (3 / 4 + 2 * (2 / 3) / (2 / 3 + 1 / 4)) / 3,
        ),
        # Errors of class 0: 1/2 (its own), 1/6: Jaccard losses 1, 1. Of class 1: 1/3 (its own), 1/4: 1, 1.
        ("lovasz", {}, (1 / 2 + 1 / 3) / 2),
    ],
)
def test_several_classes_by_hand(name: str, options: dict[str, float], expected: float) -> None:
    loss = create_loss(name, binary=False, classes=3, **options)
    assert float(loss(THREE, THREE_MASK)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("dice", (3 / 4 + 1 / 4) / 2), ("tversky", (3 / 4 + 1 / 4) / 2), ("lovasz", 1 + LOG3)],
)
def test_false_alarms_cost_something_where_there_is_no_foreground(name: str, expected: float) -> None:
    loss = create_loss(name, binary=True, classes=2)
    logits = row((LOG3,), (-LOG3,), (9.0,)).requires_grad_()
    value = loss(logits, labels(0, 0, IGNORE_INDEX))
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.item() == pytest.approx(expected)
    assert gradient[0, 0, 0, 0] > 0


SMP_LOSSES: dict[str, tuple[dict[str, float], Callable[[str], nn.Module]]] = {
    "dice": ({}, lambda mode: smp.DiceLoss(mode)),
    "dice smooth": ({"smooth": 0.7}, lambda mode: smp.DiceLoss(mode, smooth=0.7)),
    "tversky jaccard": ({"alpha": 1, "beta": 1}, lambda mode: smp.JaccardLoss(mode)),
    "tversky": ({"alpha": 0.2, "beta": 0.9}, lambda mode: smp.TverskyLoss(mode, alpha=0.2, beta=0.9)),
    "focal": ({"gamma": 2}, lambda mode: smp.FocalLoss(mode, gamma=2)),
    "focal alpha": ({"gamma": 3, "alpha": 0.25}, lambda mode: smp.FocalLoss(mode, gamma=3, alpha=0.25)),
    "lovasz": ({}, lambda mode: smp.LovaszLoss(mode)),
}


@pytest.mark.parametrize("twin", SMP_LOSSES)
@pytest.mark.parametrize("mode", ["binary", "multiclass"])
def test_the_value_is_that_of_segmentation_models_pytorch(twin: str, mode: str) -> None:
    options, theirs = SMP_LOSSES[twin]
    binary, classes = mode == "binary", 2 if mode == "binary" else 5
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(3, 1 if binary else classes, 8, 9, generator=generator)
    mask = torch.randint(classes, (3, 8, 9), generator=generator)
    ours = create_loss(twin.split()[0], binary=binary, classes=classes, **options)
    torch.testing.assert_close(ours(logits, mask), theirs(mode)(logits, mask), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_one_logit_makes_bce_and_cross_entropy_the_same(smoothing: float) -> None:
    one, other = (
        create_loss(name, binary=True, classes=2, label_smoothing=smoothing, class_weights=[1, 4])
        for name in ("bce", "cross_entropy")
    )
    logits, mask = row((2.0,), (-1.0,), (0.5,)), labels(1, 0, 0)
    torch.testing.assert_close(one(logits, mask), other(logits, mask))


def test_lovasz_of_certain_predictions_is_one_minus_the_mean_iou() -> None:
    generator = torch.Generator().manual_seed(0)
    mask, predicted = torch.randint(3, (2, 2, 20, 20), generator=generator)
    logits = 100 * torch.nn.functional.one_hot(predicted, 3).movedim(-1, 1).float()
    ious = [
        float(((mask == index) & (predicted == index)).sum() / ((mask == index) | (predicted == index)).sum())
        for index in range(3)
    ]
    value = create_loss("lovasz", binary=False, classes=3)(logits, mask)
    assert float(value) == pytest.approx(1 - sum(ious) / 3, rel=1e-5)


def test_absent_classes_do_not_dilute_the_others() -> None:
    logits, mask = THREE, THREE_MASK
    crowd = torch.cat([logits, torch.full((1, 18, 1, 3), -100.0)], dim=1)
    for name in ("dice", "tversky", "lovasz"):
        few, many = (create_loss(name, binary=False, classes=classes) for classes in (3, 21))
        torch.testing.assert_close(few(logits, mask), many(crowd, mask))
