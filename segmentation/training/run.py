"""A training run from config to report: `train.py` calls this."""

import logging
import math
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning import Trainer, seed_everything
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

from segmentation import build, checkpoint
from segmentation.callbacks import History, Interruption, log_summary
from segmentation.data.source import Source
from segmentation.data.split import write_split
from segmentation.environment import device_name, versions
from segmentation.errors import UserError
from segmentation.metrics import per_class
from segmentation.processes import company
from segmentation.quiet import hush
from segmentation.report import table, write_report
from segmentation.settings import read_settings
from segmentation.task import SegmentationTask

log = logging.getLogger(__name__)

Config = Mapping[str, Any]


def train(config: Config, source: Source, folder: Path) -> float:
    """Fits, tests the best checkpoint and fills the run folder; the result is that checkpoint's val/miou.

    Of several processes the first alone writes; for the others the result is nan.
    Raises `UserError` for whatever in the config or the data the user can mend.
    """
    start = time.perf_counter()
    hush()
    settings = read_settings(config)
    seed_everything(settings.seed, workers=True, verbose=False)
    task = build.build_task(settings, source)
    data = build.build_data(settings, source)
    history = History(folder / "metrics.csv")
    trainer = build.build_trainer(settings, folder, source.classes, history)
    last = _take_up(task, history, folder) if settings.resume else None
    if last is None and (folder / "checkpoints" / "last.ckpt").exists():
        raise UserError(
            f"{folder} already holds a run: go on with resume={folder}, or give another hydra.run.dir."
        )
    if trainer.is_global_zero:
        _keep_inputs(config, source, folder)
    _announce(source, task, trainer)
    with company(trainer):
        _fit(trainer, task, data, folder, last)
        about = _test(trainer, task, data, folder / "checkpoints" / "best.ckpt")
    if not trainer.is_global_zero:
        return math.nan
    epoch = about["epoch"] + 1
    tested = {f"test/{name}": value for name, value in task.test_tally.scores().items()}
    seen = {name: value for name, value in history.row(epoch).items() if name.startswith(("train/", "val/"))}
    metrics = seen | tested
    classes = per_class(task.test_tally.confusion.compute(), source.classes.names)
    report = {
        "metrics": metrics,
        "per_class": classes,
        "protocol": {**about["segmentation"]["protocol"], "checkpoint": f"best.ckpt, epoch {epoch}"},
        "model": {**task.model.description, "parameters": _parameters(task)},
        "data": {**settings.dataset, "images": _lengths(source), "notes": list(source.notes)},
        "environment": {
            "device": device_name(),
            "processes": trainer.world_size,
            "precision": trainer.precision,
            **versions(),
        },
        "seconds": time.perf_counter() - start,
    }
    write_report(folder, report)
    log_summary(trainer.loggers, config, metrics)
    log.info("\n%s\n\nThe run folder: %s", table(metrics, classes), folder)
    return metrics["val/miou"]


def _take_up(task: SegmentationTask, history: History, folder: Path) -> Path:
    last = folder / "checkpoints" / "last.ckpt"
    contents = checkpoint.read(last)
    if contents["segmentation"].get("model") != task.model.description:
        raise UserError(f"{last} holds another model than its run's config describes: it cannot be resumed.")
    epoch, batches = _progress(contents, last)
    history.go_on_after(epoch)
    log.info("resuming after epoch %d%s", epoch, f" and {batches} batches of the next" if batches else "")
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


def _fit(trainer: Trainer, task: SegmentationTask, data: Any, folder: Path, last: Path | None) -> None:
    try:
        trainer.fit(task, datamodule=data, ckpt_path=last, weights_only=True)
    except MisconfigurationException as error:
        raise UserError(f"trainer: {str(error).splitlines()[0]}") from error
    except (KeyboardInterrupt, SystemExit):
        if (folder / "checkpoints" / "last.ckpt").exists():
            log.info("interrupted: resume=%s goes on where it stopped", folder)
        else:
            log.info("interrupted before there was anything to resume")
        sys.exit(_status(trainer))


def _status(trainer: Trainer) -> int:
    """What a shell expects of a process that a signal ended; 130 for Ctrl-C."""
    caught = max(hook.caught for hook in trainer.callbacks if isinstance(hook, Interruption))  # type: ignore[attr-defined]
    return 128 + (caught or signal.SIGINT)


def _test(trainer: Trainer, task: SegmentationTask, data: Any, best: Path) -> dict[str, Any]:
    if not best.is_file():
        raise UserError(
            "The run ended before its first validation, so there is no best checkpoint: give it more"
            " trainer.max_epochs, max_steps or max_time, or a smaller check_val_every_n_epoch."
        )
    contents = checkpoint.read(best)
    weights: dict[str, Any] = checkpoint.model_weights(contents)
    # Also into a model that is cut up between processes.
    set_model_state_dict(task.model, weights, options=StateDictOptions(full_state_dict=True))
    trainer.test(task, datamodule=data, verbose=False)
    return contents


def _keep_inputs(config: Config, source: Source, folder: Path) -> None:
    (folder / "config.yaml").write_text(yaml.safe_dump(dict(config), sort_keys=False))
    write_split(folder / "split.csv", source)


def _announce(source: Source, task: SegmentationTask, trainer: Trainer) -> None:
    images = ", ".join(f"{count} {split}" for split, count in _lengths(source).items())
    log.info("data: %d classes, images: %s", len(source.classes), images)
    for note in source.notes:
        log.info("note: %s", note)
    device = trainer.strategy.root_device.type
    log.info("model: %.1f M parameters, %s on %s", _parameters(task) / 1e6, trainer.precision, device)


def _lengths(source: Source) -> dict[str, int]:
    return {split: len(samples) for split, samples in source.splits().items()}


def _parameters(task: SegmentationTask) -> int:
    return sum(parameter.numel() for parameter in task.model.parameters())
