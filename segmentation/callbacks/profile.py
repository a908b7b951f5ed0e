"""Where the time of a training step goes: a table of shares, and a trace to look into."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.profilers import Profiler
from torch.profiler import ProfilerActivity, profile

_REST = "Lightning's loop"
_SHARES = (
    *("data wait", "transfer", "forward", "loss", "metrics and logging"),
    *("backward", "optimizer", "callbacks", _REST),
)
# Parts of Lightning's names of what it does; the first that fits counts.
_ACTIONS = {
    "train_dataloader_next": "data wait",
    "batch_to_device": "transfer",
    "batch_transfer": "transfer",
    "[Strategy]": "forward",
    "[Callback]": "callbacks",
}
_STEP = ("forward", "loss", "metrics and logging")


class Profile(Callback):
    """Measures `steps` training steps after the first `warmup`, then traces `traced` more.

    Writes into `folder`: `shares.md`, the part of a step's time that each thing takes; `trace.json`, for
    ui.perfetto.dev or chrome://tracing; `operators.txt`, torch's own table of what the traced steps computed.
    On a GPU the shares wait for the device wherever one thing ends and another begins: overlap does not show in them,
    in the trace it does. Training ends when there is enough; a shorter run writes what it has measured.
    """

    def __init__(self, folder: Path, *, warmup: int = 3, steps: int = 10, traced: int = 2) -> None:
        self._folder = folder
        self._last_of = {"warmup": warmup, "steps": warmup + steps, "traced": warmup + steps + traced}
        self._seen = 0
        self._clock: Clock | None = None
        self._trace: profile | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listens to what Lightning says it does, and to when the loss begins and ends."""
        gpu = trainer.strategy.root_device.type == "cuda"
        self._clock = clock = Clock(torch.cuda.synchronize if gpu else None)
        trainer.profiler = clock  # type: ignore[attr-defined]
        loss = pl_module.loss
        assert isinstance(loss, torch.nn.Module)
        loss.register_forward_pre_hook(lambda *_: clock.go_on_as("loss"))
        loss.register_forward_hook(lambda *_: clock.go_on_as("metrics and logging"))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts the step; begins and ends what is due."""
        assert self._clock is not None
        self._seen += 1
        if self._seen == self._last_of["warmup"]:
            self._clock.reset()
        elif self._seen == self._last_of["steps"]:
            self._write_shares(trainer)
            activities = [ProfilerActivity.CPU]
            if trainer.strategy.root_device.type == "cuda":
                activities.append(ProfilerActivity.CUDA)
            os.environ.setdefault("KINETO_LOG_LEVEL", "9")  # it calls a missing GPU an error, on stderr
            # acc_events keeps torch 2.11 from warning about events of several cycles: there is one.
            self._trace = profile(activities=activities, acc_events=True)
            self._trace.start()
        elif self._seen == self._last_of["traced"]:
            self._write_trace(trainer)
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes what a run that was too short for all of it has measured."""
        if self._last_of["warmup"] < self._seen < self._last_of["steps"]:
            self._write_shares(trainer)
        self._write_trace(trainer)

    def _write_shares(self, trainer: Trainer) -> None:
        if trainer.is_global_zero and self._clock is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            steps = self._seen - self._last_of["warmup"]
            (self._folder / "shares.md").write_text(shares(self._clock.seconds, steps))

    def _write_trace(self, trainer: Trainer) -> None:
        if self._trace is None:
            return
        self._trace.stop()
        if trainer.is_global_zero:
            self._trace.export_chrome_trace(str(self._folder / "trace.json"))
            table = self._trace.key_averages().table(sort_by="self_cpu_time_total", row_limit=30)
            (self._folder / "operators.txt").write_text(table)
        self._trace = None


class Clock(Profiler):
    """Seconds by share of the step; what happens within something else counts for itself alone.

    `synchronise` waits for a device that works on while Python goes ahead.
    """

    def __init__(
        self,
        synchronise: Callable[[], None] | None = None,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        super().__init__()
        self._synchronise, self._now = synchronise, now
        self._open = [_REST]
        self.reset()

    def reset(self) -> None:
        """Forgets what was measured; what is open stays so."""
        self.seconds = dict.fromkeys(_SHARES, 0.0)
        self._since = self._now()

    def start(self, action_name: str) -> None:
        """Something begins, within what is open."""
        self._count()
        self._open.append(_share_of(action_name))

    def stop(self, action_name: str) -> None:
        """It ends, and what it lay in goes on."""
        self._count()
        if len(self._open) > 1:  # what was begun before this clock may end under it
            self._open.pop()

    def go_on_as(self, share: str) -> None:
        """A step that is in its forward pass, loss or metrics goes on with another of these."""
        if self._open[-1] in _STEP:
            self._count()
            self._open[-1] = share

    def _count(self) -> None:
        if self._synchronise is not None:
            self._synchronise()
        now = self._now()
        self.seconds[self._open[-1]] += now - self._since
        self._since = now


def shares(seconds: dict[str, float], steps: int) -> str:
    """The Markdown table of what `steps` training steps spent where."""
    whole = sum(seconds.values())
    lines = ["| what | share | ms a step |", "| --- | ---: | ---: |"]
    lines += [
        f"| {name} | {spent / whole:.1%} | {1e3 * spent / steps:.2f} |" for name, spent in seconds.items()
    ]
    return "\n".join([*lines, f"| a step | 100 % | {1e3 * whole / steps:.2f} |"]) + "\n"


def _share_of(action: str) -> str:
    if action.endswith("backward"):
        return "backward"
    if "optimizer_step" in action or "zero_grad" in action or "gradient_clipping" in action:
        return "optimizer"
    if "training_step" in action and not action.startswith("[Strategy]"):
        return _REST
    return next((share for part, share in _ACTIONS.items() if part in action), _REST)
