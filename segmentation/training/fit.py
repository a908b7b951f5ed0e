"""Training, then the test of its best checkpoint, either of which a signal may end."""

import sys
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

from segmentation import checkpoint
from segmentation.callbacks import Interruption
from segmentation.data.datamodule import SegmentationData
from segmentation.errors import UserError
from segmentation.task import SegmentationTask


def fit_and_test(
    trainer: Trainer, task: SegmentationTask, data: SegmentationData, folder: Path, last: Path | None
) -> dict[str, Any]:
    """Fits, from the checkpoint `last` on if there is one, and tests; the result is the best checkpoint's contents.

    Raises `UserError` where the training came to no checkpoint of use. Ctrl-C, SIGTERM and SIGUSR1 end the
    process with the status that a shell expects.
    """
    interruption = next(hook for hook in trainer.callbacks if isinstance(hook, Interruption))  # type: ignore[attr-defined]
    try:
        with interruption.listening(trainer):
            _fit(trainer, task, data, last)
            return _test(trainer, task, data, folder / "checkpoints" / "best.ckpt")
    except (KeyboardInterrupt, SystemExit):
        sys.exit(interruption.status)


def _fit(trainer: Trainer, task: SegmentationTask, data: SegmentationData, last: Path | None) -> None:
    try:
        trainer.fit(task, datamodule=data, ckpt_path=last, weights_only=True)
    except MisconfigurationException as error:
        raise UserError(f"trainer: {str(error).splitlines()[0]}") from error


def _test(trainer: Trainer, task: SegmentationTask, data: SegmentationData, best: Path) -> dict[str, Any]:
    if not best.is_file():
        raise UserError(
            "The run ended before its first validation, so there is no best checkpoint: give it more"
            " trainer.max_epochs, max_steps or max_time, or a smaller check_val_every_n_epoch."
        )
    contents = checkpoint.read(best)
    weights: dict[str, Any] = checkpoint.model_weights(contents)
    for name, values in weights.items():
        # Such a model takes all for one class, and would have a score like any other.
        if not bool(torch.isfinite(values).all()):
            raise UserError(
                f"The training diverged: in {best} the weights {name} are not finite. Start anew"
                " with a smaller optimizer.lr, or with precision=32-true."
            )
    # Also into a model that is cut up between processes.
    set_model_state_dict(task.model, weights, options=StateDictOptions(full_state_dict=True))
    trainer.test(task, datamodule=data, verbose=False)
    return contents
