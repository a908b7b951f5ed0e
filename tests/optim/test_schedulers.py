"""Learning rates computed by hand and compared with PyTorch's schedulers; warm-up; resuming."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Optimizer, lr_scheduler

from segmentation.errors import UserError
from segmentation.optim import SCHEDULERS, Curve, Plateau, create_scheduler

LR = 0.1
RATIO = 0.25
STEPS_PER_EPOCH, EPOCHS = 10, 6
STEPS = STEPS_PER_EPOCH * EPOCHS

MINIMAL: dict[str, dict[str, Any]] = {
    "constant": {},
    "cosine": {},
    "multistep": {"milestones": [2, 5]},
    "poly": {},
    "onecycle": {"warmup_share": 0.3},
    "cyclic": {"max_lr": 1.0, "up_epochs": 2},
    "plateau": {},
}


def optimizer_with_backbone() -> Optimizer:
    head, backbone = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    return SGD([{"params": [head], "lr": LR}, {"params": [backbone], "lr": RATIO * LR}], lr=LR)


def build(
    name: str, optimizer: Optimizer, *, epochs: int = EPOCHS, max_steps: int | None = None, **options: Any
) -> Curve:
    return create_scheduler(
        name,
        optimizer,
        total_steps=max_steps or epochs * STEPS_PER_EPOCH,
        steps_per_epoch=STEPS_PER_EPOCH,
        epochs=epochs,
        **(MINIMAL[name] | options),
    )


def walk(optimizer: Optimizer, scheduler: Any, steps: int) -> list[list[float]]:
    """The rates of all groups before each step, and after the last."""
    rates = [[group["lr"] for group in optimizer.param_groups]]
    for _ in range(steps):
        optimizer.step()
        scheduler.step()
        rates.append([group["lr"] for group in optimizer.param_groups])
    return rates


def curve(name: str, steps: int = STEPS, **options: Any) -> list[float]:
    """The head's rates; checks that the ratio to the backbone's rate stays the same."""
    optimizer = optimizer_with_backbone()
    rates = walk(optimizer, build(name, optimizer, **options), steps)
    assert [backbone for _, backbone in rates] == pytest.approx([RATIO * head for head, _ in rates])
    return [head for head, _ in rates]


PYTORCH_SCHEDULERS: dict[str, tuple[str, dict[str, Any], Callable[[Optimizer], Any]]] = {
    "cosine": ("cosine", {}, lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS)),
    "multistep": (
        "multistep",
        {"milestones": [2, 4.5], "gamma": 0.3},
        lambda o: lr_scheduler.MultiStepLR(o, [20, 45], gamma=0.3),
    ),
    "poly": ("poly", {"power": 2.0}, lambda o: lr_scheduler.PolynomialLR(o, STEPS, power=2.0)),
    # PyTorch's ends one step earlier, and its warm-up too: a step more of both makes it the same curve.
    "onecycle": (
        "onecycle",
        {"warmup_share": 0.4, "start_division": 20, "final_division": 50},
        lambda o: lr_scheduler.OneCycleLR(
            o,
            max_lr=[LR, RATIO * LR],
            total_steps=STEPS + 1,
            pct_start=(0.4 * STEPS + 1) / (STEPS + 1),
            div_factor=20,
            final_div_factor=50,
            cycle_momentum=False,
        ),
    ),
    "cyclic": (
        "cyclic",
        {"max_lr": 0.7, "up_epochs": 1.5},
        lambda o: lr_scheduler.CyclicLR(
            o, [LR, RATIO * LR], [0.7, RATIO * 0.7], step_size_up=15, cycle_momentum=False
        ),
    ),
    "warm-up": (
        "constant",
        {"warmup_epochs": 2},
        lambda o: lr_scheduler.LinearLR(o, start_factor=0.01, total_iters=20),
    ),
}


@pytest.mark.parametrize("twin", PYTORCH_SCHEDULERS)
def test_the_curve_is_that_of_pytorch(twin: str) -> None:
    name, options, theirs = PYTORCH_SCHEDULERS[twin]
    optimizer = optimizer_with_backbone()
    expected = walk(optimizer, theirs(optimizer), STEPS)
    # PyTorch's cosine and polynomial are recursive and lose a little on the way.
    assert curve(name, **options) == pytest.approx([head for head, _ in expected], rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "options", "points"),
    [
        ("constant", {}, {0: LR, 33: LR, STEPS: LR}),
        ("cosine", {"min_lr": 0.02}, {0: LR, 20: 0.02 + 0.08 * 0.75, 30: 0.06, STEPS: 0.02}),
        ("multistep", {}, {19: LR, 20: LR / 10, 49: LR / 10, 50: LR / 100, STEPS: LR / 100}),
        ("poly", {}, {0: LR, 30: LR * 0.5**0.9, STEPS: 0}),
        ("onecycle", {}, {0: LR / 25, 9: LR * (1 / 25 + 1) / 2, 18: LR, STEPS: LR / 25e4}),
        ("cyclic", {}, {0: LR, 10: 0.55, 20: 1.0, 30: 0.55, 40: LR, STEPS: 1.0}),
    ],
)
def test_by_hand(name: str, options: dict[str, Any], points: dict[int, float]) -> None:
    rates = curve(name, **options)
    assert {step: rates[step] for step in points} == pytest.approx(points)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_warm_up_multiplies_by_a_line_from_a_hundredth_to_one(name: str) -> None:
    plain, warmed = curve(name), curve(name, warmup_epochs=1.5)
    line = [min(1.0, 0.01 + 0.99 * step / 15) for step in range(STEPS + 1)]
    assert warmed == pytest.approx([rate * share for rate, share in zip(plain, line, strict=True)])


@pytest.mark.parametrize(
    ("name", "options", "points"),
    [
        ("constant", {"warmup_epochs": 2}, {0: LR / 100, 10: LR * 0.505, 20: LR}),
        ("multistep", {"milestones": [2, 5]}, {19: LR, 20: LR / 10, 25: LR / 10}),
        ("multistep", {"milestones": [5]}, {25: LR}),
        ("cyclic", {}, {0: LR, 10: 0.55, 20: 1.0}),
        ("cosine", {}, {0: LR, 25: 0}),
    ],
)
def test_epochs_stay_epochs_where_steps_end_the_run_earlier(
    name: str, options: dict[str, Any], points: dict[int, float]
) -> None:
    rates = curve(name, steps=25, max_steps=25, **options)
    assert {step: rates[step] for step in points} == pytest.approx(points)


@pytest.mark.parametrize("name", sorted(set(SCHEDULERS) - {"constant", "plateau"}))
def test_steps_beyond_the_end_keep_the_last_rate(name: str) -> None:
    rates = curve(name, steps=STEPS + 7)
    assert rates[STEPS:] == [rates[STEPS]] * 8


def test_a_plateau_lowers_every_group_until_its_least_rate() -> None:
    optimizer = optimizer_with_backbone()
    plateau = build("plateau", optimizer, factor=0.5, patience=1, min_lr=0.04)
    assert isinstance(plateau, Plateau)
    rates = []
    for loss in [1.0, 0.5, 0.5, 0.5, 0.4, 0.4, 0.4, 0.4, 0.4]:
        plateau.end_epoch(loss)
        rates.append([group["lr"] for group in optimizer.param_groups])
    heads = [LR, LR, LR, LR / 2, LR / 2, LR / 2, 0.04, 0.04, 0.04]
    assert rates == [pytest.approx([head, RATIO * head]) for head in heads]


def test_a_plateau_is_that_of_pytorch() -> None:
    own, other = optimizer_with_backbone(), optimizer_with_backbone()
    plateau = build("plateau", own, factor=0.7, patience=2)
    theirs = lr_scheduler.ReduceLROnPlateau(other, factor=0.7, patience=2)
    assert isinstance(plateau, Plateau)
    losses = (1 + torch.rand(60)).cumprod(0).reciprocal()[torch.randint(0, 9, (60,))].tolist()
    for loss in [*losses[:30], math.nan, *losses[30:]]:
        plateau.end_epoch(loss)
        theirs.step(loss)
        assert [group["lr"] for group in own.param_groups] == pytest.approx(
            [group["lr"] for group in other.param_groups]
        )
    assert plateau.height < 0.7**4


def test_a_plateau_during_the_warm_up_lasts() -> None:
    optimizer = optimizer_with_backbone()
    plateau = build("plateau", optimizer, patience=0, warmup_epochs=1)
    assert isinstance(plateau, Plateau)
    walk(optimizer, plateau, 5)
    for loss in (1.0, 1.0):
        plateau.end_epoch(loss)
    rates = walk(optimizer, plateau, 20)
    assert rates[-1] == pytest.approx([LR / 10, RATIO * LR / 10])


# What is typed beside resume=: another length, rate, schedule or warm-up.
@pytest.mark.parametrize("earlier", SCHEDULERS)
@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize(("epochs", "warmup_epochs", "rate"), [(EPOCHS, 3, 1), (2 * EPOCHS, 1, 0.5)])
def test_a_resumed_run_goes_on_along_the_curve_of_its_own_options(
    earlier: str, name: str, epochs: int, warmup_epochs: float, rate: float
) -> None:
    done = 25
    first = optimizer_with_backbone()
    before = build(earlier, first, warmup_epochs=3)
    walk(first, before, done)

    second = optimizer_with_backbone()
    for group in second.param_groups:
        group["lr"] *= rate
    after = build(name, second, warmup_epochs=warmup_epochs, epochs=epochs)
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    after.go_to(done)
    rates = walk(second, after, 20)

    whole = curve(name, warmup_epochs=warmup_epochs, epochs=epochs, steps=epochs * STEPS_PER_EPOCH)
    expected = [rate * head for head in whole[done : done + 21]]
    assert [head for head, _ in rates] == pytest.approx(expected)


def test_a_resumed_plateau_keeps_what_it_reached_and_takes_the_options_of_now() -> None:
    before = build("plateau", optimizer_with_backbone(), factor=0.5, patience=0)
    assert isinstance(before, Plateau)
    for loss in (1.0, 1.0):
        before.end_epoch(loss)
    optimizer = optimizer_with_backbone()
    after = build("plateau", optimizer, factor=0.1, patience=1)
    assert isinstance(after, Plateau)
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    heads = []
    for loss in (1.0, 1.0, 0.5):
        after.end_epoch(loss)
        after.go_to(7)
        heads.append(optimizer.param_groups[0]["lr"])
    assert heads == pytest.approx([LR / 2, LR / 20, LR / 20])


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_state_is_plain_data(name: str, tmp_path: Any) -> None:
    state = build(name, optimizer_with_backbone(), warmup_epochs=1).state_dict()
    torch.save(state, tmp_path / "state.pt")
    assert torch.load(tmp_path / "state.pt", weights_only=True).keys() == state.keys()


@pytest.mark.parametrize("name", ["cosine", "poly", "onecycle"])
@pytest.mark.parametrize(("total_steps", "epochs"), [(math.inf, -1), (math.inf, None), (0, 0)])
def test_a_run_of_unknown_length_is_an_error(name: str, total_steps: float, epochs: int | None) -> None:
    length: Any = {"total_steps": total_steps, "steps_per_epoch": STEPS_PER_EPOCH, "epochs": epochs}
    with pytest.raises(UserError, match=r"Set trainer\.max_epochs"):
        create_scheduler(name, optimizer_with_backbone(), **length, **MINIMAL[name])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cosin", {}, "scheduler=cosin is unknown. Did you mean 'cosine'?"),
        ("cosine", {"gamma": 1}, "There is no option 'scheduler.gamma'"),
        ("cosine", {"warmup_epoch": 1}, "There is no option 'scheduler.warmup_epoch'. Did you mean"),
        ("cosine", {"min_lr": -1}, "scheduler.min_lr=-1"),
        ("cosine", {"min_lr": 0.2}, "scheduler.min_lr=0.2 is not right: it must be below"),
        ("cosine", {"warmup_epochs": -1}, "scheduler.warmup_epochs=-1"),
        ("cosine", {"warmup_epochs": 7}, "scheduler.warmup_epochs=7.0 is not right: it must be within"),
        ("constant", {"warmup_epochs": 7}, "scheduler.warmup_epochs=7"),
        ("plateau", {"warmup_epochs": 7}, "scheduler.warmup_epochs=7"),
        ("multistep", {"milestones": []}, "scheduler.milestones=[]"),
        ("multistep", {"milestones": 4}, "scheduler.milestones=4"),
        (
            "multistep",
            {"milestones": [3, 2]},
            "scheduler.milestones=[3.0, 2.0] is not right: it must be epochs",
        ),
        ("multistep", {"milestones": [3, 3]}, "scheduler.milestones=[3.0, 3.0]"),
        ("multistep", {"milestones": [0, 3]}, "scheduler.milestones=[0.0, 3.0]"),
        ("multistep", {"milestones": [6]}, "scheduler.milestones=[6.0] is not right: it must be inside"),
        ("multistep", {"milestones": [3], "gamma": 1.5}, "scheduler.gamma=1.5"),
        ("poly", {"power": 0}, "scheduler.power=0"),
        ("poly", {"power": "steep"}, "scheduler.power=steep"),
        ("onecycle", {"warmup_share": 1}, "scheduler.warmup_share=1"),
        ("onecycle", {"warmup_share": 0.3, "start_division": 0.5}, "scheduler.start_division=0.5"),
        ("onecycle", {"warmup_share": 0.3, "final_division": 0}, "scheduler.final_division=0"),
        ("cyclic", {}, "scheduler.max_lr is missing"),
        ("cyclic", {"max_lr": 0.05}, "scheduler.max_lr=0.05 is not right: it must be above optimizer.lr=0.1"),
        ("cyclic", {"max_lr": 1, "up_epochs": 0}, "scheduler.up_epochs=0"),
        ("cyclic", {"max_lr": 1, "up_epochs": 7}, "scheduler.up_epochs=7"),
        ("plateau", {"factor": 1}, "scheduler.factor=1"),
        ("plateau", {"patience": -1}, "scheduler.patience=-1"),
        ("plateau", {"min_lr": 0.1}, "scheduler.min_lr=0.1"),
    ],
)
def test_a_wrong_option_is_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        length = {"total_steps": STEPS, "steps_per_epoch": STEPS_PER_EPOCH, "epochs": EPOCHS}
        create_scheduler(name, optimizer_with_backbone(), **length, **options)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_the_default_milestone_is_at_two_thirds() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = create_scheduler("multistep", optimizer, total_steps=30, steps_per_epoch=5, epochs=6)
    rates = []
    for _ in range(30):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([1.0] * 20 + [0.1] * 10)
