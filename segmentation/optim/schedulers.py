"""Schedules of the learning rate over the run's real length, counted in optimizer steps.

A schedule is a curve: from the epochs done, with their fraction, to a factor for every parameter group's own
rate, so a backbone's slower rate keeps its ratio. Absolute rates (`min_lr`, `max_lr`) are meant for the head,
whose rate is the optimizer's `lr`. The factor follows from the number of steps alone: a run resumed with
another number of epochs goes on along the curve of the new length. `warmup_epochs` multiplies any of them by
a line from a hundredth to one.
"""

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LinearLR, ReduceLROnPlateau

from segmentation.config import create
from segmentation.errors import UserError
from segmentation.optim.optimizers import check

# MERGED FROM optim/run: What a schedule must know of the run, and how its curve is brought to the optimizer.

Schedules = list[dict[str, Any]]

WARMUP_START = 0.01
"""The share of its rate with which a group begins a warm-up."""


@dataclass(frozen=True)
class RunLength:
    """An optimizer and how many of its steps, in how many epochs, the run has."""

    optimizer: Optimizer
    total_steps: float
    epochs: float | None

    @property
    def lr(self) -> float:
        """The head's rate before any schedule."""
        rate: float = self.optimizer.defaults["lr"]
        return rate

    @property
    def length(self) -> float:
        """The run's epochs. Raises `UserError` where it has no known end."""
        if not self.epochs or self.epochs <= 0 or not 0 < self.total_steps < math.inf:
            raise UserError(
                "scheduler: the length of the run is not known, and this schedule stretches over it. "
                "Set trainer.max_epochs to a number above 0, or take scheduler=constant without warm-up."
            )
        return self.epochs

    def epoch(self, step: int) -> float:
        """Epochs done after `step` optimizer steps, with their fraction; the last one is never exceeded."""
        return min(step * self.length / self.total_steps, self.length)

    def check_warmup(self, warmup_epochs: float) -> None:
        """Raises `UserError` unless the warm-up is 0 or fits into the run."""
        inside = warmup_epochs == 0 or 0 < warmup_epochs <= self.length
        check("scheduler.warmup_epochs", warmup_epochs, inside, f"from 0 to the run's {self.epochs} epochs")


class _Curve(LambdaLR):
    """Takes up the curve of a resumed run's new length at once, not one step late."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        groups = zip(self.optimizer.param_groups, self.base_lrs, self.lr_lambdas, strict=True)
        for group, own_rate, factor in groups:
            group["lr"] = own_rate * factor(self.last_epoch)
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]


def by_step(run: RunLength, curve: Callable[[float], float], *, warmup_epochs: float) -> Schedules:
    """Every group's own rate times `curve(epoch)`, and times a line from `WARMUP_START` to 1 at first."""
    run.check_warmup(warmup_epochs)

    def factor(step: int) -> float:
        epoch = run.epoch(step)
        rising = WARMUP_START + (1 - WARMUP_START) * epoch / warmup_epochs if epoch < warmup_epochs else 1.0
        return curve(epoch) * rising

    # A plain function: what a scheduler's state keeps of a callable object would outlive a change of length.
    return [{"scheduler": _Curve(run.optimizer, factor), "interval": "step"}]


def warmup_alone(run: RunLength, *, warmup_epochs: float) -> Schedules:
    """The same rise for a rate that is otherwise constant or set by others; nothing for 0 epochs."""
    run.check_warmup(warmup_epochs)
    if warmup_epochs == 0:
        return []
    steps = max(1, round(warmup_epochs * run.total_steps / run.length))
    warmup = LinearLR(run.optimizer, start_factor=WARMUP_START, total_iters=steps)
    return [{"scheduler": warmup, "interval": "step"}]


def constant(run: RunLength, *, warmup_epochs: float = 0.0) -> Schedules:
    """The optimizer's rate throughout."""
    return warmup_alone(run, warmup_epochs=warmup_epochs)


def cosine(run: RunLength, *, min_lr: float = 0.0, warmup_epochs: float = 0.0) -> Schedules:
    """Half a cosine from the optimizer's rate down to `min_lr`. Loshchilov & Hutter 2017, SGDR, eq. 5."""
    low = _share_of_rate(run, min_lr)
    return by_step(run, lambda epoch: _cosine(1.0, low, epoch / run.length), warmup_epochs=warmup_epochs)


def multistep(
    run: RunLength, *, milestones: list[float] | None = None, gamma: float = 0.1, warmup_epochs: float = 0.0
) -> Schedules:
    """Times `gamma` (0..1) when each of the `milestones`, in epochs, is done; None is two thirds of the run."""
    milestones = [run.length * 2 / 3] if milestones is None else milestones
    rising = all(early < late for early, late in zip([0.0, *milestones], milestones, strict=False))
    check("scheduler.milestones", milestones, bool(milestones) and rising, "epochs above 0 that increase")
    inside = milestones[-1] < run.length
    check("scheduler.milestones", milestones, inside, f"inside the run of {run.epochs} epochs")
    check("scheduler.gamma", gamma, 0 < gamma < 1, "between 0 and 1")
    return by_step(run, lambda epoch: gamma ** bisect_right(milestones, epoch), warmup_epochs=warmup_epochs)


def poly(run: RunLength, *, power: float = 0.9, warmup_epochs: float = 0.0) -> Schedules:
    """(1 - share of the run done)^`power`. Chen et al. 2017, Rethinking Atrous Convolution, sec. 4."""
    check("scheduler.power", power, power > 0, "above 0")
    return by_step(run, lambda epoch: (1 - epoch / run.length) ** power, warmup_epochs=warmup_epochs)


def onecycle(
    run: RunLength,
    *,
    warmup_share: float = 0.3,
    start_division: float = 25.0,
    final_division: float = 1e4,
    warmup_epochs: float = 0.0,
) -> Schedules:
    """Up to the optimizer's rate over `warmup_share` (0..1) of the run, down over the rest, both by cosines.

    It starts at the rate over `start_division` and ends at that start over `final_division` (both >= 1).
    Smith & Topin 2018, Super-Convergence, with the cosines that PyTorch's OneCycleLR has for their lines.
    """
    check("scheduler.warmup_share", warmup_share, 0 < warmup_share < 1, "between 0 and 1")
    check("scheduler.start_division", start_division, start_division >= 1, "1 or more")
    check("scheduler.final_division", final_division, final_division >= 1, "1 or more")
    start = 1 / start_division

    def curve(epoch: float) -> float:
        done = epoch / run.length
        if done < warmup_share:
            return _cosine(start, 1.0, done / warmup_share)
        return _cosine(1.0, start / final_division, (done - warmup_share) / (1 - warmup_share))

    return by_step(run, curve, warmup_epochs=warmup_epochs)


def cyclic(run: RunLength, *, max_lr: float, up_epochs: float = 5.0, warmup_epochs: float = 0.0) -> Schedules:
    """Triangles: from the optimizer's rate to `max_lr` in `up_epochs`, and back in as many.

    Smith 2017, Cyclical Learning Rates for Training Neural Networks, sec. 3.
    """
    check("scheduler.max_lr", max_lr, max_lr > run.lr, f"above optimizer.lr={run.lr}")
    inside = 0 < up_epochs <= run.length
    check("scheduler.up_epochs", up_epochs, inside, f"above 0 and inside the run of {run.epochs} epochs")

    def curve(epoch: float) -> float:
        height = 1 - abs(epoch % (2 * up_epochs) / up_epochs - 1)
        return 1 + (max_lr / run.lr - 1) * height

    return by_step(run, curve, warmup_epochs=warmup_epochs)


def plateau(
    run: RunLength,
    *,
    factor: float = 0.1,
    patience: int = 10,
    min_lr: float = 0.0,
    warmup_epochs: float = 0.0,
) -> Schedules:
    """Times `factor` (0..1) after more than `patience` epochs without a lower val/loss, down to `min_lr`."""
    check("scheduler.factor", factor, 0 < factor < 1, "between 0 and 1")
    check("scheduler.patience", patience, patience >= 0, "0 or more")
    low = _share_of_rate(run, min_lr)
    least = [low * group["lr"] for group in run.optimizer.param_groups]
    scheduler = ReduceLROnPlateau(run.optimizer, factor=factor, patience=patience, min_lr=least)
    watch = {"scheduler": scheduler, "interval": "epoch", "monitor": "val/loss"}
    return [watch, *warmup_alone(run, warmup_epochs=warmup_epochs)]


SCHEDULERS: dict[str, Callable[..., Schedules]] = {
    "constant": constant,
    "cosine": cosine,
    "multistep": multistep,
    "poly": poly,
    "onecycle": onecycle,
    "cyclic": cyclic,
    "plateau": plateau,
}


def create_schedulers(
    name: str, optimizer: Optimizer, *, total_steps: float, epochs: int | None, **options: Any
) -> Schedules:
    """The schedule called `name` for a run of `total_steps` optimizer steps in `epochs` epochs.

    The result is a list, empty for a plain constant, of Lightning's descriptions of a scheduler: "scheduler",
    the "interval" ("step" or "epoch") at which it is to be stepped and the "monitor" that it needs, if any.

    Raises `UserError` for a name, an option or a value that is not right, and where the schedule stretches
    over a run without a known end.
    """
    return create("scheduler", SCHEDULERS, name, RunLength(optimizer, total_steps, epochs), **options)


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2


def _share_of_rate(run: RunLength, min_lr: float) -> float:
    check("scheduler.min_lr", min_lr, 0 <= min_lr < run.lr, f"from 0 to below optimizer.lr={run.lr}")
    return min_lr / run.lr
