"""Learning-rate schedules over the real length of a run, counted in optimizer steps.

A schedule is a curve: from the finished epochs, with their fraction, to a factor for the rate of every parameter group,
so that the ratio of backbone to head stays. Absolute rates (`min_lr`, `max_lr`) are those of the head, whose rate is
the optimizer's `lr`. The factor depends on the number of steps only: a run resumed with another number of epochs
continues on the curve of the new length. `warmup_epochs` multiplies a schedule by a line from 0.01 to 1.
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

Schedules = list[dict[str, Any]]
"""Lightning's descriptions of schedulers, see `create_schedulers`."""

WARMUP_START = 0.01
"""Factor of the rate at the start of a warm-up."""


@dataclass(frozen=True)
class Run:
    """What a schedule needs to know: the optimizer, and the run's number of optimizer steps and epochs."""

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
        """The run's epochs. Raises `UserError` if they are not known."""
        if not self.epochs or self.epochs <= 0 or not 0 < self.total_steps < math.inf:
            raise UserError(
                "scheduler: this schedule depends on the length of the run, which is not known. "
                "Set trainer.max_epochs to a number above 0, or use scheduler=constant without warm-up."
            )
        return self.epochs

    def epoch(self, step: int) -> float:
        """Epochs after `step` optimizer steps, with their fraction; never more than the run has."""
        return min(step * self.length / self.total_steps, self.length)

    def check_warmup(self, warmup_epochs: float) -> None:
        """Raises `UserError` unless the warm-up is 0 or fits into the run."""
        fits = warmup_epochs == 0 or 0 < warmup_epochs <= self.length
        check("scheduler.warmup_epochs", warmup_epochs, fits, f"from 0 to the run's {self.epochs} epochs")


class _Curve(LambdaLR):
    """Applies the curve of a resumed run's new length at once, not one step late."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        groups = zip(self.optimizer.param_groups, self.base_lrs, self.lr_lambdas, strict=True)
        for group, own_rate, factor in groups:
            group["lr"] = own_rate * factor(self.last_epoch)
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]


def by_step(run: Run, curve: Callable[[float], float], *, warmup_epochs: float) -> Schedules:
    """Every group's rate times `curve(epoch)`, and times a line from `WARMUP_START` to 1 in the first epochs."""
    run.check_warmup(warmup_epochs)

    def factor(step: int) -> float:
        epoch = run.epoch(step)
        warmup = WARMUP_START + (1 - WARMUP_START) * epoch / warmup_epochs if epoch < warmup_epochs else 1.0
        return curve(epoch) * warmup

    # A plain function: a callable object would be saved in the scheduler's state, with the old length of the run.
    return [{"scheduler": _Curve(run.optimizer, factor), "interval": "step"}]


def warmup_only(run: Run, *, warmup_epochs: float) -> Schedules:
    """The same warm-up for a rate that is constant or set by another scheduler; empty for 0 epochs."""
    run.check_warmup(warmup_epochs)
    if warmup_epochs == 0:
        return []
    steps = max(1, round(warmup_epochs * run.total_steps / run.length))
    warmup = LinearLR(run.optimizer, start_factor=WARMUP_START, total_iters=steps)
    return [{"scheduler": warmup, "interval": "step"}]


def constant(run: Run, *, warmup_epochs: float = 0.0) -> Schedules:
    """The optimizer's rate throughout."""
    return warmup_only(run, warmup_epochs=warmup_epochs)


def cosine(run: Run, *, min_lr: float = 0.0, warmup_epochs: float = 0.0) -> Schedules:
    """Half a cosine from the optimizer's rate down to `min_lr`. Loshchilov & Hutter 2017, SGDR, eq. 5."""
    low = _relative(run, min_lr)
    return by_step(run, lambda epoch: _cosine(1.0, low, epoch / run.length), warmup_epochs=warmup_epochs)


def multistep(
    run: Run, *, milestones: list[float] | None = None, gamma: float = 0.1, warmup_epochs: float = 0.0
) -> Schedules:
    """Times `gamma` (0..1) after each of the `milestones`, in epochs; None is one after two thirds of the run."""
    milestones = [run.length * 2 / 3] if milestones is None else milestones
    increasing = all(early < late for early, late in zip([0.0, *milestones], milestones, strict=False))
    check("scheduler.milestones", milestones, bool(milestones) and increasing, "epochs above 0 that increase")
    fits = milestones[-1] < run.length
    check("scheduler.milestones", milestones, fits, f"inside the run of {run.epochs} epochs")
    check("scheduler.gamma", gamma, 0 < gamma < 1, "between 0 and 1")
    return by_step(run, lambda epoch: gamma ** bisect_right(milestones, epoch), warmup_epochs=warmup_epochs)


def poly(run: Run, *, power: float = 0.9, warmup_epochs: float = 0.0) -> Schedules:
    """(1 - finished share of the run)^`power`. Chen et al. 2017, Rethinking Atrous Convolution, sec. 4."""
    check("scheduler.power", power, power > 0, "above 0")
    return by_step(run, lambda epoch: (1 - epoch / run.length) ** power, warmup_epochs=warmup_epochs)


def onecycle(
    run: Run,
    *,
    warmup_share: float,
    start_division: float = 25.0,
    final_division: float = 1e4,
    warmup_epochs: float = 0.0,
) -> Schedules:
    """Up to the optimizer's rate over `warmup_share` (0..1) of the run, down over the rest, both as cosines.

    It starts at the rate divided by `start_division` and ends at that start divided by `final_division` (both >= 1).
    Smith & Topin 2018, Super-Convergence, with cosines instead of lines, as in PyTorch's OneCycleLR.
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


def cyclic(run: Run, *, max_lr: float, up_epochs: float = 5.0, warmup_epochs: float = 0.0) -> Schedules:
    """A triangle wave: from the optimizer's rate to `max_lr` in `up_epochs`, and back in the same time.

    Smith 2017, Cyclical Learning Rates for Training Neural Networks, sec. 3.
    """
    check("scheduler.max_lr", max_lr, max_lr > run.lr, f"above optimizer.lr={run.lr}")
    fits = 0 < up_epochs <= run.length
    check("scheduler.up_epochs", up_epochs, fits, f"above 0 and inside the run of {run.epochs} epochs")

    def curve(epoch: float) -> float:
        height = 1 - abs(epoch % (2 * up_epochs) / up_epochs - 1)
        return 1 + (max_lr / run.lr - 1) * height

    return by_step(run, curve, warmup_epochs=warmup_epochs)


def plateau(
    run: Run,
    *,
    factor: float = 0.1,
    patience: int = 10,
    min_lr: float = 0.0,
    warmup_epochs: float = 0.0,
) -> Schedules:
    """Times `factor` (0..1) after more than `patience` epochs without a lower val/loss, down to `min_lr`."""
    check("scheduler.factor", factor, 0 < factor < 1, "between 0 and 1")
    check("scheduler.patience", patience, patience >= 0, "0 or more")
    low = _relative(run, min_lr)
    lowest = [low * group["lr"] for group in run.optimizer.param_groups]
    scheduler = ReduceLROnPlateau(run.optimizer, factor=factor, patience=patience, min_lr=lowest)
    on_epoch = {"scheduler": scheduler, "interval": "epoch", "monitor": "val/loss"}
    return [on_epoch, *warmup_only(run, warmup_epochs=warmup_epochs)]


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

    The result is a list of Lightning's descriptions of a scheduler, empty for a constant rate: "scheduler", the
    "interval" ("step" or "epoch") of its steps and the "monitor" that it needs, if any.

    Raises `UserError` for an unknown name or option, for an invalid value, and if the schedule depends on the length of
    the run and this is not known.
    """
    return create("scheduler", SCHEDULERS, name, Run(optimizer, total_steps, epochs), **options)


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2


def _relative(run: Run, min_lr: float) -> float:
    check("scheduler.min_lr", min_lr, 0 <= min_lr < run.lr, f"from 0 to below optimizer.lr={run.lr}")
    return min_lr / run.lr
