"""Properties of every loss, binary or not, and errors for invalid options."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from segmentation.errors import UserError
from segmentation.losses import LOSSES, create_loss
from segmentation.models import Decision
from segmentation.types import IGNORE_INDEX

KINDS = {"binary": (True, 2), "multiclass": (False, 4)}
PLAIN: list[tuple[str, dict[str, float]]] = [(name, {}) for name in LOSSES]
OPTIONS: list[tuple[str, dict[str, float]]] = [
    ("bce", {"label_smoothing": 0.2}),
    ("cross_entropy", {"label_smoothing": 0.2}),
    ("focal", {"gamma": 0.5, "alpha": 0.25}),
    ("dice", {"smooth": 1.0}),
    ("tversky", {"alpha": 0.1, "beta": 1.0, "smooth": 0.5}),
    ("bce_dice", {"pixel_weight": 0.3, "dice_weight": 2.0, "label_smoothing": 0.1}),
]
every_loss = pytest.mark.parametrize(
    ("name", "options"),
    [*PLAIN, *OPTIONS],
    ids=lambda value: value if isinstance(value, str) else "".join(value),
)
every_kind = pytest.mark.parametrize("kind", KINDS)


def data(
    kind: str, seed: int, *, ignored: float, shape: tuple[int, int, int] = (2, 4, 5)
) -> tuple[Tensor, Tensor]:
    binary, classes = KINDS[kind]
    generator = torch.Generator().manual_seed(seed)
    batch, height, width = shape
    logits = 3 * torch.randn(batch, 1 if binary else classes, height, width, generator=generator)
    mask = torch.randint(classes, shape, generator=generator, dtype=torch.uint8)
    mask[torch.rand(shape, generator=generator) < ignored] = IGNORE_INDEX
    return logits, mask


def value_and_gradient(loss: torch.nn.Module, logits: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    logits = logits.clone().requires_grad_()
    value = loss(logits, mask)
    (gradient,) = torch.autograd.grad(value, logits)
    return value.detach(), gradient


@every_loss
@every_kind
@settings(deadline=None, max_examples=12)
@given(seed=st.integers(0, 10**6), ignored=st.floats(0, 0.95), weighted=st.booleans())
def test_ignored_pixels_have_the_effect_of_removed_ones(
    name: str, options: dict[str, float], kind: str, seed: int, ignored: float, weighted: bool
) -> None:
    binary, classes = KINDS[kind]
    weights = [0.5 + index for index in range(classes)] if weighted else None
    loss = create_loss(name, binary=binary, classes=classes, class_weights=weights, **options)
    logits, mask = data(kind, seed, ignored=ignored)
    value, gradient = value_and_gradient(loss, logits, mask)
    valid = mask != IGNORE_INDEX
    assert gradient.movedim(1, -1)[~valid].count_nonzero() == 0
    if valid.any():
        removed = logits.movedim(1, -1)[valid].T[None, :, None]
        expected, rest = value_and_gradient(loss, removed, mask[valid][None, None])
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(
            gradient.movedim(1, -1)[valid].T[None, :, None], rest, rtol=1e-4, atol=1e-6
        )


@every_loss
@every_kind
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_a_fully_ignored_batch_is_zero_with_zero_gradients(
    name: str, options: dict[str, float], kind: str, scale: float
) -> None:
    binary, classes = KINDS[kind]
    logits, mask = data(kind, 0, ignored=1.1)
    loss = create_loss(name, binary=binary, classes=classes, **options)
    value, gradient = value_and_gradient(loss, scale * logits, mask)
    assert value == 0
    assert gradient.count_nonzero() == 0


@every_loss
@every_kind
def test_extreme_logits_stay_finite(name: str, options: dict[str, float], kind: str) -> None:
    binary, classes = KINDS[kind]
    logits, mask = data(kind, 1, ignored=0.2)
    loss = create_loss(name, binary=binary, classes=classes, **options)
    value, gradient = value_and_gradient(loss, 1e4 * logits, mask)
    assert value.isfinite()
    assert gradient.isfinite().all()


@every_loss
@every_kind
@settings(deadline=None, max_examples=5)
@given(seed=st.integers(0, 10**6))
def test_the_order_of_pixels_does_not_matter(
    name: str, options: dict[str, float], kind: str, seed: int
) -> None:
    binary, classes = KINDS[kind]
    logits, mask = data(kind, seed, ignored=0.2, shape=(1, 1, 40))
    order = torch.randperm(40, generator=torch.Generator().manual_seed(seed))
    loss = create_loss(name, binary=binary, classes=classes, **options)
    moved = loss(logits[..., order], mask[..., order])
    torch.testing.assert_close(moved, loss(logits, mask), rtol=1e-5, atol=1e-6)


@every_loss
@every_kind
def test_descent_finds_the_right_labels(name: str, options: dict[str, float], kind: str) -> None:
    binary, classes = KINDS[kind]
    _, mask = data(kind, 2, ignored=0.2)
    loss = create_loss(name, binary=binary, classes=classes, **options)
    logits = torch.zeros(len(mask), 1 if binary else classes, *mask.shape[1:], requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.5)
    start = float(loss(logits, mask).detach())
    for _ in range(80):
        optimizer.zero_grad()
        loss(logits, mask).backward()
        optimizer.step()
    valid = mask != IGNORE_INDEX
    assert torch.equal(Decision(binary).labels(logits.detach())[valid], mask[valid])
    # With a smoothed target even the best prediction costs something.
    share = 0.75 if "label_smoothing" in options else 0.05
    assert loss(logits, mask) < share * start


@every_loss
@every_kind
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_give_a_single_precision_loss(
    name: str, options: dict[str, float], kind: str, dtype: torch.dtype
) -> None:
    binary, classes = KINDS[kind]
    logits, mask = data(kind, 3, ignored=0.2)
    loss = create_loss(name, binary=binary, classes=classes, **options)
    logits = logits.to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        value, gradient = value_and_gradient(loss, logits, mask)
    assert value.dtype == torch.float32
    assert gradient.dtype == dtype
    torch.testing.assert_close(value, loss(logits.float(), mask))


@every_loss
@every_kind
def test_a_mask_can_have_any_integer_type(name: str, options: dict[str, float], kind: str) -> None:
    binary, classes = KINDS[kind]
    logits, mask = data(kind, 4, ignored=0.2)
    loss = create_loss(name, binary=binary, classes=classes, **options)
    assert torch.equal(loss(logits, mask), loss(logits, mask.long()))


@every_loss
@every_kind
def test_only_the_ratio_of_class_weights_matters(name: str, options: dict[str, float], kind: str) -> None:
    binary, classes = KINDS[kind]
    logits, mask = data(kind, 5, ignored=0.2)
    weights = [1.0 + index for index in range(classes)]
    one, other, plain = (
        create_loss(name, binary=binary, classes=classes, class_weights=chosen, **options)(logits, mask)
        for chosen in (weights, [1e-6 * weight for weight in weights], None)
    )
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert abs(one - plain) > 1e-4


@pytest.mark.parametrize("name", ["bce", "cross_entropy", "focal"])
@every_kind
def test_pixels_of_a_class_without_weight_have_the_effect_of_ignored_ones(name: str, kind: str) -> None:
    binary, classes = KINDS[kind]
    logits, mask = data(kind, 6, ignored=0.2)
    loss = create_loss(name, binary=binary, classes=classes, class_weights=[0.0, *[1.0] * (classes - 1)])
    ignored = mask.masked_fill(mask == 0, IGNORE_INDEX)
    torch.testing.assert_close(loss(logits, mask), loss(logits, ignored))
    assert loss(logits, torch.zeros_like(mask)) == 0


def test_a_loss_adds_nothing_to_a_checkpoint() -> None:
    for name in LOSSES:
        assert not create_loss(name, binary=False, classes=3, class_weights=[1, 2, 3]).state_dict()


# Invalid options.

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
    ("bce", {"class_weights": [1, -1, 1]}, "loss.class_weights=[1.0, -1.0, 1.0]"),
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


@pytest.mark.parametrize(("name", "tolerance"), [("bce", 0.01), ("cross_entropy", 0.01), ("bce_dice", 0.06)])
def test_a_model_that_knows_nothing_answers_with_the_frequencies(name: str, tolerance: float) -> None:
    frequencies = torch.tensor([0.8, 0.15, 0.05])
    mask = torch.arange(3, dtype=torch.uint8).repeat_interleave((frequencies * 400).round().int())
    mask = mask.view(1, 20, 20)
    loss = create_loss(name, binary=False, classes=3)
    logits = torch.zeros(1, 3, 1, 1, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        loss(logits.expand(1, 3, 20, 20), mask).backward()
        optimizer.step()
    decision = Decision(False, one_vs_rest=bool(loss.one_vs_rest))
    probabilities = decision.probabilities(logits.detach()).flatten()
    torch.testing.assert_close(probabilities, frequencies, rtol=0, atol=tolerance)
