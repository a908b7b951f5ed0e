"""Checkpoint files of a run: best, best_loss and last, written atomically."""

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

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
    """Lightning's callback for one file of fixed name; also continues in a run folder that was moved."""

    def __init__(self, folder: Path, filename: str, **options: Any) -> None:
        super().__init__(
            folder, filename, enable_version_counter=False, auto_insert_metric_name=False, **options
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the state with its paths changed to this folder; with other paths Lightning drops the best score."""
        moved = dict(state_dict, dirpath=self.dirpath)
        for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
            moved[name] = self._here(moved[name])
        moved["best_k_models"] = {self._here(path): score for path, score in moved["best_k_models"].items()}
        super().load_state_dict(moved)

    def _here(self, path: str) -> str:
        return str(Path(str(self.dirpath)) / Path(path).name) if path else path
