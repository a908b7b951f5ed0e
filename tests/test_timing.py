"""The time of a step, by a clock that the test controls."""

import importlib

import pytest
import torch

from segmentation.config import Budget
from segmentation.timing import measure


class Clock:
    """A clock that advances only in steps."""

    def __init__(self, *seconds: float) -> None:
        self.now = 0.0
        self.steps = 0
        self._seconds = seconds

    def __call__(self) -> float:
        return self.now

    def step(self) -> None:
        self.now += self._seconds[min(self.steps, len(self._seconds) - 1)]
        self.steps += 1


@pytest.mark.parametrize(
    ("seconds", "budget", "steps", "median", "iqr"),
    [
        # Two warm-up steps, then steps until three seconds are over.
        ([9, 9, 1], (2, 3.0, 100), 3, 1.0, 0.0),
        # At least three steps, however slow; at most as many as allowed, however fast.
        ([50, 10, 30], (0, 1.0, 100), 3, 30.0, 20.0),
        ([0.001], (0, 3.0, 7), 7, 0.001, 0.0),
        ([5], (1, 3.0, 1), 1, 5.0, 0.0),
        # The median ignores an outlier.
        ([1, 1, 1, 60, 1, 1, 1], (0, 66.0, 100), 7, 1.0, 0.0),
    ],
)
def test_the_median_of_steps_within_a_budget(
    seconds: list[float], budget: tuple[int, float, int], steps: int, median: float, iqr: float
) -> None:
    warmup, time, most = budget
    clock = Clock(*seconds)
    measurement = measure(clock.step, Budget(warmup=warmup, seconds=time, steps=most), clock=clock)
    assert len(measurement.times) == steps == clock.steps - warmup
    assert (measurement.median, measurement.iqr) == pytest.approx((median, iqr), abs=1e-9)


def test_a_step_lasts_until_the_device_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    now, pending, waits = 0.0, 0.0, 0

    def synchronize() -> None:
        nonlocal now, pending, waits
        now, pending, waits = now + pending, 0.0, waits + 1

    def step() -> None:
        nonlocal now, pending
        now, pending = now + 1, 2.0  # Python goes on after one second, the device works for two more

    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "synchronize", synchronize)
    monkeypatch.setattr("timeit.default_timer", lambda: now)
    # Older versions of torch look for the device once, when they are imported.
    timer = importlib.reload(importlib.import_module("torch.utils.benchmark.utils.timer")).timer
    monkeypatch.setattr("torch.utils.benchmark.timer", timer)
    measurement = measure(step, Budget(warmup=1, seconds=9, steps=9))
    assert measurement.times == [3.0] * 3
    assert (
        waits == 1 + 3 * 3 - 2
    )  # at the start, around each step, and for the budget from the fourth step on
