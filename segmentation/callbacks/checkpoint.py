"""Checkpoint files of a run: best, best_loss and last, written atomically."""

import math
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from segmentation.report.report import lower_is_better
from segmentation.writing import replacing


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes to a temporary name beside the file and renames it: a crash leaves the old checkpoint or the new one.

    Lightning's own goes through the system's temporary folder, which may lie on another disk.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Replaces `path` atomically."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target, "wb") as file:
            torch.save(checkpoint, file)


class RunCheckpoint(ModelCheckpoint):
    """Lightning's callback for one file of fixed name; also continues in a run folder that was moved.

    With `monitor` the file is the best validation's, else the end of the last epoch. Between equals the lower val/loss
    is better, then the later validation; nan is worse than any number.
    """

    def __init__(self, folder: Path, filename: str, monitor: str | None = None) -> None:
        super().__init__(
            folder,
            filename,
            monitor=monitor,
            mode="min" if monitor is None or lower_is_better(monitor) else "max",
            # Without a metric at the very end of an epoch, so that a resumed run starts with the next one.
            save_on_train_epoch_end=monitor is None,
            enable_version_counter=False,
            auto_insert_metric_name=False,
        )
        self._best = (-math.inf, -math.inf)  # score and -loss, the higher the better

    @property
    def state_key(self) -> str:
        """Lightning's, which is without the file's name: `best` by val/loss would have that of `best_loss`."""
        key: str = super().state_key
        return f"{key}best" if (self.filename, self.monitor) == ("best", "val/loss") else key

    def check_monitor_top_k(self, trainer: Trainer, current: torch.Tensor | None = None) -> bool:
        """Whether a validation is the best so far; Lightning then writes the file."""
        assert current is not None
        rank = self._upwards(current, self.mode), self._upwards(trainer.callback_metrics["val/loss"], "min")
        better = trainer.strategy.reduce_boolean_decision(rank >= self._best)
        if better:
            self._best = rank
        return better

    @staticmethod
    def _upwards(score: torch.Tensor, mode: str) -> float:
        value = float(score) if mode == "max" else -float(score)
        return -math.inf if math.isnan(value) else value

    def state_dict(self) -> dict[str, Any]:
        """Lightning's, and what the next validation has to reach."""
        return {**super().state_dict(), "best": list(self._best)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the state with its paths changed to this folder; with other paths Lightning drops the best score."""
        moved = dict(state_dict, dirpath=self.dirpath)
        for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
            moved[name] = self._here(moved[name])
        moved["best_k_models"] = {
            self._here(path): torch.tensor(float(score)) for path, score in moved["best_k_models"].items()
        }
        super().load_state_dict(moved)
        if "best" in state_dict:
            score, loss = state_dict["best"]
            self._best = float(score), float(loss)
        elif self.best_model_score is not None:  # written by an earlier version
            self._best = self._upwards(self.best_model_score, self.mode), -math.inf

    def _here(self, path: str) -> str:
        return str(Path(str(self.dirpath)) / Path(path).name) if path else path
