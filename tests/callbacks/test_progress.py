"""Images per second, and the progress bar: epochs from 1, and the time left for the whole run."""

import time
from types import SimpleNamespace
from typing import Any

import pytest
from pytorch_lightning.callbacks.progress import progress_bar

from segmentation.callbacks.monitoring import Progress, Throughput


@pytest.mark.parametrize(
    ("steps", "left"),
    [((100, 110, 200), "01:30"), ((0, 5, 5), "00:00"), ((0, 1, float("inf")), None), ((7, 7, 9), None)],
)
def test_the_time_left_follows_from_the_pace_since_the_run_went_on(
    steps: tuple[int, int, float], left: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    began_at, now, all_steps = steps
    clock = iter([50.0, 60.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(progress_bar, "get_standard_metrics", lambda trainer: {"v_num": "1"})
    monkeypatch.setattr("segmentation.callbacks.monitoring.used_memory", lambda: 1.26e9)
    bar, trainer = Progress(), trainer_at(began_at, all_steps)
    bar._trainer = trainer
    bar.disable()
    bar.on_train_start(trainer)
    trainer.global_step = now
    shown = bar.get_metrics(trainer, Any)
    assert shown == {"loss": 0.5, "mem": "1.3G"} | ({} if left is None else {"left": left})
    assert "left" not in shown or next(iter(shown)) == "left"  # what stands last is cut off first


def trainer_at(step: int, steps: float) -> Any:
    return SimpleNamespace(
        global_step=step, estimated_stepping_batches=steps, progress_bar_metrics={"loss": 0.5}
    )


def test_the_rate_of_training_is_without_the_validations_between(monkeypatch: pytest.MonkeyPatch) -> None:
    now, logged = 0.0, []
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    task: Any = SimpleNamespace(log=lambda name, value, **_: logged.append((name, value)))
    rate, trainer = Throughput(), trainer_at(0, 9)

    def batch(end: Any, seconds: float) -> None:
        nonlocal now
        now += seconds
        end(trainer, task, None, {"name": ["a", "b"]}, 0)

    rate.on_train_start(trainer, task)
    rate.on_train_epoch_start(trainer, task)
    for _ in range(2):
        batch(rate.on_train_batch_end, 1)
        batch(rate.on_train_batch_end, 1)
        now += 5  # writing a checkpoint
        rate.on_validation_epoch_start(trainer, task)
        batch(rate.on_validation_batch_end, 10)
        rate.on_validation_epoch_end(trainer, task)
        now += 5
    rate.on_train_epoch_end(trainer, task)
    assert [value for name, value in logged if name == "val/images_per_second"] == [0.2, 0.2]
    assert logged[-1] == ("train/images_per_second", pytest.approx(2 * 4 / 9))
