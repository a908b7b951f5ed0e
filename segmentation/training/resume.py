"""What a run takes up of itself when it is resumed."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning import Trainer

from segmentation import checkpoint
from segmentation.callbacks import History, Interruption
from segmentation.errors import UserError
from segmentation.task import SegmentationTask

log = logging.getLogger(__name__)

Config = Mapping[str, Any]

_RESULTS = ("report.json", "report.md", "error.txt")
_PRUNED = "pruned.txt"


def take_up(trainer: Trainer, task: SegmentationTask, history: History, config: Config, folder: Path) -> Path:
    """The checkpoint from which the run in `folder` goes on; `history`, `trainer` and folder are prepared for it.

    What the run had come to before is removed: whoever found it would take the run for finished.
    Raises `UserError` where there is no checkpoint, or one that does not fit.
    """
    last = folder / "checkpoints" / "last.ckpt"
    contents = checkpoint.read(last)
    if contents["segmentation"].get("model") != task.model.description:
        raise UserError(f"{last} holds another model than its run's config describes: it cannot be resumed.")
    epoch, batches = _progress(contents, last)
    history.go_on_after(epoch)
    log.info("resuming after epoch %d%s", epoch, f" and {batches} batches of the next" if batches else "")
    _tell_of_the_missing(trainer, contents)
    alike = _ends_alike(config, folder)
    for hook in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(hook, Interruption):
            hook.stays_stopped = alike
    if trainer.is_global_zero:
        for name in (*_RESULTS, *(() if alike and Interruption.has_stopped(contents) else (_PRUNED,))):
            (folder / name).unlink(missing_ok=True)
    return last


def _progress(contents: Mapping[str, Any], source: Path) -> tuple[int, int]:
    """Whole epochs, and batches of the one that was begun."""
    try:
        loops = contents["loops"]["fit_loop"]
        epochs = loops["epoch_progress"]["current"]
        batches = loops["epoch_loop.batch_progress"]["current"]["completed"]
        return epochs["processed"], batches if epochs["started"] > epochs["processed"] else 0
    except (KeyError, TypeError) as error:
        raise UserError(f"{source} holds a model, but not how far its training was.") from error


def _tell_of_the_missing(trainer: Trainer, contents: Mapping[str, Any]) -> None:
    kept = {hook.state_key for hook in trainer.callbacks}  # type: ignore[attr-defined]
    missing = sorted(str(key).partition("{")[0] for key in set(contents.get("callbacks", ())) - kept)
    if missing:
        log.info("switched off, or changed, since the run began: %s", ", ".join(missing))


def _ends_alike(config: Config, folder: Path) -> bool:
    """Whether nothing has changed by which the training ends."""
    try:
        earlier = yaml.safe_load((folder / "config.yaml").read_text())
        return all(earlier[section] == config[section] for section in ("callbacks", "trainer"))
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        return False
