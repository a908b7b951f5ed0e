"""Ending a run that is hopeless beside the others of its sweep."""

import logging
import statistics
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning import Callback, LightningModule, Trainer

from segmentation.callbacks.history import read_history

log = logging.getLogger(__name__)


class Pruning(Callback):
    """Stops the training after a validation where the run's best score is worse than the others' median.

    The others are the runs in the folders beside that train on the same data for as many epochs, as their
    `config.yaml` says. Compared is, by their `metrics.csv`, each one's best score up to the same epoch, as in the
    median rule of Vizier (Golovin et al. 2017, 3.2.2) and of Optuna. So it needs no database and holds for any
    launcher. At least `least_runs` must have come that far, and the run itself `warmup_epochs`.
    A pruned run is tested and reported like any other, with the score that it reached, which is below the best;
    `pruned.txt` in its folder says why it is short.
    """

    def __init__(self, folder: Path, *, monitor: str, mode: str, least_runs: int, warmup_epochs: int) -> None:
        self._folder = folder
        self._monitor = monitor
        self._best = max if mode == "max" else min
        self._least_runs = least_runs
        self._warmup_epochs = warmup_epochs
        self._own: list[float] = []
        self._alike: dict[Path, bool] = {}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Decides, on the first process for all."""
        if trainer.sanity_checking or self._monitor not in trainer.callback_metrics:
            return
        score = float(trainer.callback_metrics[self._monitor])
        self._own += [score] if score == score else []
        epoch = trainer.current_epoch + 1
        reason = self._verdict(epoch, trainer.max_epochs) if trainer.is_global_zero else ""
        if trainer.strategy.broadcast(reason):
            trainer.should_stop = True
        if reason:
            said = f"pruned after epoch {epoch} of {trainer.max_epochs}: {reason}"
            (self._folder / "pruned.txt").write_text(f"{said}\n")
            log.info(said)

    def state_dict(self) -> dict[str, Any]:
        """A resumed run remembers what it reached."""
        return {"scores": self._own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes it up."""
        self._own = list(state_dict["scores"])

    def _verdict(self, epoch: int, last: int | None) -> str:
        """Why the run should end before epoch `last`; empty where it should not."""
        if epoch <= self._warmup_epochs or epoch == last or not self._own:
            return ""
        others = [
            reached
            for path in self._folder.parent.glob("*/metrics.csv")
            if path.parent != self._folder
            and (reached := self._reached(path, epoch)) is not None
            and self._is_alike(path.parent)
        ]
        if len(others) < self._least_runs:
            return ""
        own, median = self._best(self._own), statistics.median(others)
        if own == median or self._best(own, median) == own:
            return ""
        return f"{self._monitor} {own:.4f}, the median of {len(others)} others {median:.4f}"

    def _is_alike(self, other: Path) -> bool:
        if other not in self._alike:
            own = _task(self._folder)
            self._alike[other] = own is not None and own == _task(other)
        return self._alike[other]

    def _reached(self, history: Path, epoch: int) -> float | None:
        rows = read_history(history)
        if not rows or rows[-1]["epoch"] < epoch:
            return None
        scores = [row[self._monitor] for row in rows if row["epoch"] <= epoch and self._monitor in row]
        there = [score for score in scores if score == score]
        return self._best(there) if there else None


def _task(folder: Path) -> tuple[Any, Any] | None:
    """Of a run: its data, and how long it is meant to train; None where its config cannot be read."""
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text())
        return config["dataset"], config["trainer"].get("max_epochs")
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return None
