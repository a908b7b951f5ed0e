"""A wrong name or value ends in one message that names it."""

from typing import Any

import pytest

from segmentation.errors import UserError
from segmentation.losses import create_loss

WRONG = [
    ("dise", {}, "loss=dise is unknown. Did you mean 'dice'?"),
    ("focal", {"gama": 2}, "There is no option 'loss.gama'. Did you mean 'gamma'?"),
    ("dice", {"gamma": 2}, "There is no option 'loss.gamma'"),
    ("focal", {"gamma": "much"}, "loss.gamma=much"),
    ("focal", {"gamma": -1}, "loss.gamma=-1"),
    ("focal", {"gamma": float("nan")}, "loss.gamma=nan"),
    ("focal", {"alpha": 1.5}, "loss.alpha=1.5"),
    ("cross_entropy", {"label_smoothing": 1.1}, "loss.label_smoothing=1.1"),
    ("bce", {"label_smoothing": -0.1}, "loss.label_smoothing=-0.1"),
    ("dice", {"smooth": -1}, "loss.smooth=-1"),
    ("tversky", {"alpha": -0.5}, "loss.alpha=-0.5"),
    ("tversky", {"alpha": 0, "beta": 0}, "loss.alpha and loss.beta: all zero"),
    ("bce_dice", {"dice_weight": -1}, "loss.dice_weight=-1"),
    ("ce_dice", {"pixel_weight": 0, "dice_weight": 0}, "loss.pixel_weight and loss.dice_weight: all zero"),
    ("lovasz", {"class_weights": [1, 2]}, "loss.class_weights=[1.0, 2.0] must have 3 numbers"),
    ("bce", {"class_weights": [1, -1, 1]}, "loss.class_weights=-1"),
    ("bce", {"class_weights": [0, 0, 0]}, "loss.class_weights: all zero"),
    ("bce", {"class_weights": "heavy"}, "loss.class_weights=heavy"),
    ("ce_dice", {"class_weights": [1]}, "loss.class_weights=[1.0] must have 3 numbers"),
]


@pytest.mark.parametrize(("name", "options", "message"), WRONG)
def test_a_wrong_option_is_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        create_loss(name, binary=False, classes=3, **options)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_binary_data_have_two_weights() -> None:
    create_loss("dice", binary=True, classes=2, class_weights=[1, 2])
    with pytest.raises(UserError, match="must have 2 numbers"):
        create_loss("dice", binary=True, classes=2, class_weights=[1])
