"""Which states of a run are kept, and how they come to the disk."""

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from segmentation.files import replacing


class WholeFiles(TorchCheckpointIO):
    """Writes beside the file and renames: a crash leaves the earlier checkpoint or the new one, never a part.

    Lightning's own writes to the system's folder for temporary files, from where it may have to be copied.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Replaces `path` at once."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target, "wb") as file:
            torch.save(checkpoint, file)


class RunCheckpoint(ModelCheckpoint):
    """Lightning's callback for one file of fixed name, which also goes on in a run folder that was moved."""

    def __init__(self, folder: Path, filename: str, **options: Any) -> None:
        super().__init__(
            folder, filename, enable_version_counter=False, auto_insert_metric_name=False, **options
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The earlier state, its paths brought to this folder: elsewhere the best score would be forgotten."""
        moved = dict(state_dict, dirpath=self.dirpath)
        for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
            moved[name] = self._here(moved[name])
        moved["best_k_models"] = {self._here(path): score for path, score in moved["best_k_models"].items()}
        super().load_state_dict(moved)

    def _here(self, path: str) -> str:
        return str(Path(str(self.dirpath)) / Path(path).name) if path else path
