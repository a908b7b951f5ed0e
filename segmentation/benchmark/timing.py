"""How long a step takes: the median of many, and their spread."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from segmentation.benchmark.settings import Budget

_LEAST = 3
"""Steps that a measurement takes however slow they are: fewer have no median to speak of."""


@dataclass(frozen=True)
class Timing:
    """Seconds a step: the median, and from the lower to the upper quartile."""

    steps: int
    median: float
    spread: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Timing":
        """The timing of these steps."""
        low, median, high = np.percentile(seconds, (25, 50, 75))
        return cls(len(seconds), float(median), float(high - low))


def measure(
    step: Callable[[], None],
    budget: Budget,
    *,
    synchronise: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Timing:
    """Times single steps until the budget is spent, at least three unless it allows fewer.

    `synchronise` waits for a device that works on while Python goes ahead; it is part of each step.
    """
    for _ in range(budget.warmup):
        step()
    synchronise()
    seconds: list[float] = []
    start = clock()
    while len(seconds) < budget.steps and (len(seconds) < _LEAST or clock() - start < budget.seconds):
        began = clock()
        step()
        synchronise()
        seconds.append(clock() - began)
    return Timing.of(seconds)
