"""Ending a run early: one whose score no longer improves, or that is worse than the others of its sweep."""

import logging
import statistics
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer, callbacks

from segmentation.callbacks.history import read_history
from segmentation.errors import UserError
from segmentation.reading import read_yaml
from segmentation.report.report import lower_is_better
from segmentation.writing import write_text

log = logging.getLogger(__name__)


class EarlyStopping(callbacks.EarlyStopping):
    """Ends the training after `patience` validations in which `monitor` did not improve by more than `min_delta`.

    nan is no improvement; only a val/loss that is not finite ends the run at once, because the training has diverged.
    A resumed run counts on, with the patience of its own options.
    """

    def __init__(self, monitor: str, *, patience: int, min_delta: float) -> None:
        super().__init__(
            monitor,
            patience=patience,
            min_delta=min_delta,
            mode="min" if lower_is_better(monitor) else "max",
            check_finite=monitor == "val/loss",
            # Check after validations only: a resumed run may end an epoch without one.
            check_on_train_epoch_end=False,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the count and the best score."""
        wait_count, best_score = int(state_dict["wait_count"]), torch.tensor(float(state_dict["best_score"]))
        now = {"wait_count": wait_count, "best_score": best_score, "patience": self.patience}
        super().load_state_dict({**state_dict, **now})

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Decides, and gives the reason for an end."""
        stopped = trainer.should_stop
        super().on_validation_end(trainer, pl_module)
        if trainer.should_stop and not stopped:
            score = float(trainer.callback_metrics[self.monitor])
            reason = (
                f"not better than {float(self.best_score):.4f} in {self.wait_count} validations"
                if self.wait_count >= self.patience
                else f"{score}"
            )
            log.info("early stopping in epoch %d: %s is %s", trainer.current_epoch + 1, self.monitor, reason)


class Pruning(Callback):
    """Stops the training at the end of an epoch if the run's best score is worse than the median of the others.

    The others are the runs in sibling folders with the same data and number of epochs in their `config.yaml`. The best
    scores up to the same epoch are compared, read from their `metrics.csv`: the median rule of Vizier (Golovin et
    al. 2017, 3.2.2) and of Optuna. This needs no database and works with any launcher. At least `least_runs` others
    must have reached that epoch, and the run itself `warmup_epochs`.
    A pruned run is tested and reported like any other; `pruned.txt` in its folder gives the reason.
    """

    def __init__(self, folder: Path, *, monitor: str, least_runs: int, warmup_epochs: int) -> None:
        self._folder = folder
        self._monitor = monitor
        self._best = min if lower_is_better(monitor) else max
        self._least_runs = least_runs
        self._warmup_epochs = warmup_epochs
        self._own: list[float] = []
        self._comparable: dict[Path, bool] = {}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Decides on rank zero for all processes."""
        if trainer.sanity_checking or self._monitor not in trainer.callback_metrics:
            return
        score = float(trainer.callback_metrics[self._monitor])
        self._own += [score] if score == score else []
        epoch, left = (
            trainer.current_epoch + 1,
            trainer.num_training_batches - trainer.fit_loop.epoch_loop.batch_idx,
        )
        if trainer.val_check_batch is not None and left > trainer.val_check_batch:
            return  # the epoch has another validation, which the others' metrics.csv have by now
        reason = self._reason(epoch, trainer.max_epochs) if trainer.is_global_zero else ""
        if trainer.strategy.broadcast(reason):
            trainer.should_stop = True
        if reason:
            message = f"pruned after epoch {epoch} of {trainer.max_epochs}: {reason}"
            write_text(self._folder / "pruned.txt", f"{message}\n")
            log.info(message)

    @property
    def state_key(self) -> str:
        """Scores of another metric are not continued."""
        return self._generate_state_key(monitor=self._monitor)

    def state_dict(self) -> dict[str, Any]:
        """The scores so far, for a resumed run."""
        return {"scores": self._own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the scores."""
        self._own = [float(score) for score in state_dict["scores"]]

    def _reason(self, epoch: int, last: int | None) -> str:
        """Why the run should end before epoch `last`; empty if it should not."""
        if epoch <= self._warmup_epochs or epoch == last or not self._own:
            return ""
        others = [
            reached
            for path in self._folder.parent.glob("*/metrics.csv")
            if path.parent != self._folder
            and (reached := self._best_until(path, epoch)) is not None
            and self._is_comparable(path.parent)
        ]
        if len(others) < self._least_runs:
            return ""
        own, median = self._best(self._own), statistics.median(others)
        if own == median or self._best(own, median) == own:
            return ""
        return f"{self._monitor} {own:.4f}, the median of {len(others)} others {median:.4f}"

    def _is_comparable(self, other: Path) -> bool:
        if other not in self._comparable:
            own = _data_and_epochs(self._folder)
            self._comparable[other] = own is not None and own == _data_and_epochs(other)
        return self._comparable[other]

    def _best_until(self, history: Path, epoch: int) -> float | None:
        try:
            rows = read_history(history)
        except (OSError, UserError):
            return None
        if not rows or rows[-1].get("epoch", 0) < epoch:
            return None
        scores = [row[self._monitor] for row in rows if row["epoch"] <= epoch and self._monitor in row]
        there = [score for score in scores if score == score]
        return self._best(there) if there else None


def _data_and_epochs(folder: Path) -> tuple[Any, Any] | None:
    """A run's data set and its max_epochs; None if its config cannot be read."""
    try:
        config = read_yaml(folder / "config.yaml")
        return config["dataset"], config["trainer"].get("max_epochs")
    except (OSError, UserError, KeyError, TypeError, AttributeError):
        return None
