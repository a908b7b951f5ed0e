"""Learning-rate schedules over the real length of a run, counted in optimizer steps.

A schedule is a curve: from the finished epochs, with their fraction, to a factor for the rate of every parameter group,
so that the ratio of backbone to head stays. Absolute rates (`min_lr`, `max_lr`) are those of the head, whose rate is
the optimizer's `lr`. The factor depends on the number of steps only: a run resumed with another rate, schedule or
number of epochs goes on along the curve that it has then. `warmup_epochs` multiplies a schedule by a line from 0.01
to 1.
"""

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from segmentation.errors import UserError
from segmentation.optim.optimizers import check
from segmentation.options import create

WARMUP_START = 0.01
"""Factor of the rate at the start of a warm-up."""


@dataclass(frozen=True)
class Run:
    """What a schedule needs to know: the optimizer, the optimizer steps of the run and of an epoch, and the epochs.

    The run may end earlier than after `epochs`, by a limit of its steps.
    """

    optimizer: Optimizer
    total_steps: float
    steps_per_epoch: float
    epochs: int | None

    @property
    def lr(self) -> float:
        """The head's rate before any schedule."""
        rate: float = self.optimizer.defaults["lr"]
        return rate

    @property
    def length(self) -> float:
        """The epochs until the run ends, with their fraction. Raises `UserError` if they are not known."""
        if not 0 < self.total_steps < math.inf:
            raise UserError(
                "scheduler: this schedule depends on the length of the run, which is not known. "
                "Set trainer.max_epochs to a number above 0, or use scheduler=constant."
            )
        return self.total_steps / self.steps_per_epoch

    def epoch(self, step: int) -> float:
        """Epochs after `step` optimizer steps, with their fraction; never more than the run has."""
        return min(step, self.total_steps) / self.steps_per_epoch

    @property
    def planned(self) -> float:
        """The epochs of a run that its steps do not end earlier: options in epochs must lie within them."""
        return self.epochs if self.epochs is not None and self.epochs > 0 else math.inf


class Curve(LambdaLR):
    """The optimizer's rates times `factor(step)`.

    A resumed run gives it the number of steps by `go_to`. It takes no state, which may be that of another curve.
    """

    def go_to(self, step: int) -> None:
        """Sets the rates as they are after `step` steps."""
        self.last_epoch = step
        groups = self.optimizer.param_groups
        for group, own_rate, factor in zip(groups, self.base_lrs, self.lr_lambdas, strict=True):
            group["lr"] = own_rate * factor(step)
        self._last_lr = [group["lr"] for group in groups]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Does nothing."""


def by_step(run: Run, curve: Callable[[float], float], *, warmup_epochs: float) -> Curve:
    """Every group's rate times `curve(epoch)`, and times a line from `WARMUP_START` to 1 in the first epochs."""
    return Curve(run.optimizer, with_warmup(run, curve, warmup_epochs))


def with_warmup(run: Run, curve: Callable[[float], float], warmup_epochs: float) -> Callable[[int], float]:
    """The factor of a step. Raises `UserError` unless the warm-up lies within the run's epochs."""
    fits = warmup_epochs <= run.planned
    check("scheduler.warmup_epochs", warmup_epochs, fits, f"within the run's {run.planned:g} epochs")

    def factor(step: int) -> float:
        epoch = run.epoch(step)
        warmup = WARMUP_START + (1 - WARMUP_START) * epoch / warmup_epochs if epoch < warmup_epochs else 1.0
        return curve(epoch) * warmup

    return factor


def constant(run: Run, *, warmup_epochs: float = 0.0) -> Curve:
    """The optimizer's rate throughout."""
    return by_step(run, lambda epoch: 1.0, warmup_epochs=warmup_epochs)


def cosine(run: Run, *, min_lr: float = 0.0, warmup_epochs: float = 0.0) -> Curve:
    """Half a cosine from the optimizer's rate down to `min_lr`. Loshchilov & Hutter 2017, SGDR, eq. 5."""
    low, length = _relative(run, min_lr), run.length
    return by_step(run, lambda epoch: _cosine(1.0, low, epoch / length), warmup_epochs=warmup_epochs)


def multistep(
    run: Run, *, milestones: list[float] | None = None, gamma: float = 0.1, warmup_epochs: float = 0.0
) -> Curve:
    """Times `gamma` (0..1) after each of the `milestones`, in epochs; None is one after two thirds of the run."""
    milestones = [run.length * 2 / 3] if milestones is None else milestones
    increasing = all(early < late for early, late in zip([0.0, *milestones], milestones, strict=False))
    check("scheduler.milestones", milestones, increasing, "epochs that increase")
    fits = milestones[-1] < run.planned
    check("scheduler.milestones", milestones, fits, f"inside the run of {run.planned:g} epochs")
    return by_step(run, lambda epoch: gamma ** bisect_right(milestones, epoch), warmup_epochs=warmup_epochs)


def poly(run: Run, *, power: float = 0.9, warmup_epochs: float = 0.0) -> Curve:
    """(1 - finished share of the run)^`power`. Chen et al. 2017, Rethinking Atrous Convolution, sec. 4."""
    length = run.length
    return by_step(run, lambda epoch: (1 - epoch / length) ** power, warmup_epochs=warmup_epochs)


def onecycle(
    run: Run,
    *,
    warmup_share: float,
    start_division: float = 25.0,
    final_division: float = 1e4,
    warmup_epochs: float = 0.0,
) -> Curve:
    """Up to the optimizer's rate over `warmup_share` (0..1) of the run, down over the rest, both as cosines.

    It starts at the rate divided by `start_division` and ends at that start divided by `final_division` (both >= 1).
    Smith & Topin 2018, Super-Convergence, with cosines instead of lines, as in PyTorch's OneCycleLR.
    """
    start, length = 1 / start_division, run.length

    def curve(epoch: float) -> float:
        done = epoch / length
        if done < warmup_share:
            return _cosine(start, 1.0, done / warmup_share)
        return _cosine(1.0, start / final_division, (done - warmup_share) / (1 - warmup_share))

    return by_step(run, curve, warmup_epochs=warmup_epochs)


def cyclic(run: Run, *, max_lr: float, up_epochs: float = 5.0, warmup_epochs: float = 0.0) -> Curve:
    """A triangle wave: from the optimizer's rate to `max_lr` in `up_epochs`, and back in the same time.

    Smith 2017, Cyclical Learning Rates for Training Neural Networks, sec. 3.
    """
    check("scheduler.max_lr", max_lr, max_lr > run.lr, f"above optimizer.lr={run.lr}")
    fits = up_epochs <= run.planned
    check("scheduler.up_epochs", up_epochs, fits, f"inside the run of {run.planned:g} epochs")

    def curve(epoch: float) -> float:
        height = 1 - abs(epoch % (2 * up_epochs) / up_epochs - 1)
        return 1 + (max_lr / run.lr - 1) * height

    return by_step(run, curve, warmup_epochs=warmup_epochs)


class Plateau(Curve):
    """A curve that falls where `end_epoch` is told no lower loss: PyTorch's ReduceLROnPlateau as a factor.

    As a factor it goes with a warm-up, and with a rate that is typed anew when a run is resumed. `latest` is the loss
    of the epoch's latest validation, which a run that is resumed before the epoch's end does not repeat.
    """

    latest: float | None = None

    def __init__(
        self, run: Run, *, factor: float, patience: int, lowest: float, warmup_epochs: float
    ) -> None:
        self._fall, self._patience, self._lowest = factor, patience, lowest
        self.height, self.best_loss, self.bad_epochs = 1.0, math.inf, 0
        super().__init__(run.optimizer, with_warmup(run, lambda epoch: self.height, warmup_epochs))

    def end_epoch(self, loss: float) -> None:
        """Counts the epoch by its loss; nan and losses that are lower by less than a ten-thousandth are bad."""
        self.latest = None
        better = loss < self.best_loss * (1 - 1e-4)
        self.best_loss, self.bad_epochs = (loss, 0) if better else (self.best_loss, self.bad_epochs + 1)
        if self.bad_epochs > self._patience:
            self.height, self.bad_epochs = max(self.height * self._fall, self._lowest), 0
            self.go_to(self.last_epoch)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores what was reached, if the state is that of a plateau: the options are those of now."""
        self.height = float(state_dict.get("height", self.height))
        self.best_loss = float(state_dict.get("best_loss", self.best_loss))
        self.bad_epochs = int(state_dict.get("bad_epochs", self.bad_epochs))
        latest = state_dict.get("latest")
        self.latest = None if latest is None else float(latest)


def plateau(
    run: Run,
    *,
    factor: float = 0.1,
    patience: int = 10,
    min_lr: float = 0.0,
    warmup_epochs: float = 0.0,
) -> Plateau:
    """Times `factor` (0..1) after more than `patience` epochs without a lower val/loss, down to `min_lr`."""
    low = _relative(run, min_lr)
    return Plateau(run, factor=factor, patience=patience, lowest=low, warmup_epochs=warmup_epochs)


SCHEDULERS: dict[str, Callable[..., Curve]] = {
    "constant": constant,
    "cosine": cosine,
    "multistep": multistep,
    "poly": poly,
    "onecycle": onecycle,
    "cyclic": cyclic,
    "plateau": plateau,
}


def create_scheduler(
    name: str,
    optimizer: Optimizer,
    *,
    total_steps: float,
    steps_per_epoch: float,
    epochs: int | None,
    **options: Any,
) -> Curve:
    """The schedule called `name` for a run of `epochs` epochs, which ends after `total_steps` optimizer steps.

    It takes a step with each of the optimizer's; a `Plateau` also hears of every epoch's end.

    Raises `UserError` for an unknown name or option, for an invalid value, and if the schedule depends on the length of
    the run and this is not known.
    """
    run = Run(optimizer, total_steps, steps_per_epoch, epochs)
    return create("scheduler", SCHEDULERS, name, run, **options)


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2


def _relative(run: Run, min_lr: float) -> float:
    check("scheduler.min_lr", min_lr, min_lr < run.lr, f"below optimizer.lr={run.lr}")
    return min_lr / run.lr
