"""Time of a step, for the benchmark of a model and for the latencies of a leaderboard."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from segmentation.config import Budget
from segmentation.library_warnings import library_warnings_hidden

if TYPE_CHECKING:
    from torch.utils.benchmark import Measurement

_MIN_STEPS = 3
"""A measurement takes at least this many steps, however slow they are."""


def measure(
    step: Callable[[], object], budget: Budget, *, clock: Callable[[], float] | None = None
) -> "Measurement":
    """Time single steps until the budget is spent: at least three, unless the budget allows fewer.

    The default clock waits for the GPU. The result has the median and the interquartile range in seconds. This is not
    `Timer.blocked_autorange` because that has no maximum number of steps, may take a single one where they are slow,
    and adds warm-up steps of its own.
    """
    with library_warnings_hidden():  # on a machine with a CUDA toolkit but no GPU the import logs a warning
        from torch.utils.benchmark import Measurement, TaskSpec, timer
    clock = clock or timer
    for _ in range(budget.warmup):
        step()
    seconds: list[float] = []
    start = clock()
    while len(seconds) < budget.steps and (len(seconds) < _MIN_STEPS or clock() - start < budget.seconds):
        began = clock()
        step()
        seconds.append(clock() - began)
    return Measurement(number_per_run=1, raw_times=seconds, task_spec=TaskSpec(stmt="step()", setup=""))
