"""What a schedule must know of the run, and how its curve is brought to the optimizer."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LinearLR

from segmentation.errors import UserError
from segmentation.optim.checks import check

Schedules = list[dict[str, Any]]

WARMUP_START = 0.01
"""The share of its rate with which a group begins a warm-up."""


@dataclass(frozen=True)
class Run:
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


def by_step(run: Run, curve: Callable[[float], float], *, warmup_epochs: float) -> Schedules:
    """Every group's own rate times `curve(epoch)`, and times a line from `WARMUP_START` to 1 at first."""
    run.check_warmup(warmup_epochs)

    def factor(step: int) -> float:
        epoch = run.epoch(step)
        rising = WARMUP_START + (1 - WARMUP_START) * epoch / warmup_epochs if epoch < warmup_epochs else 1.0
        return curve(epoch) * rising

    # A plain function: what a scheduler's state keeps of a callable object would outlive a change of length.
    return [{"scheduler": _Curve(run.optimizer, factor), "interval": "step"}]


def warmup_alone(run: Run, *, warmup_epochs: float) -> Schedules:
    """The same rise for a rate that is otherwise constant or set by others; nothing for 0 epochs."""
    run.check_warmup(warmup_epochs)
    if warmup_epochs == 0:
        return []
    steps = max(1, round(warmup_epochs * run.total_steps / run.length))
    warmup = LinearLR(run.optimizer, start_factor=WARMUP_START, total_iters=steps)
    return [{"scheduler": warmup, "interval": "step"}]
