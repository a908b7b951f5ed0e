"""A training run from config to report: `train.py` calls this."""

import logging
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from pytorch_lightning import Trainer, seed_everything
from pytorch_lightning.profilers import PassThroughProfiler
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

from segmentation import build, checkpoint
from segmentation.callbacks import History, Preemption, log_summary
from segmentation.config import TrainingSettings, read_training_settings
from segmentation.data.datamodule import SegmentationData
from segmentation.data.dataset import SegmentationDataset
from segmentation.data.splits import write_split
from segmentation.distributed import worker_processes
from segmentation.environment import device_name, versions
from segmentation.errors import UserError
from segmentation.library_warnings import library_warnings_hidden
from segmentation.metrics import per_class
from segmentation.report import table, write_report
from segmentation.report.report import write_text
from segmentation.task import SegmentationTask

# MERGED FROM training/fit: Training, then the test of its best checkpoint, either of which a signal may end.
# MERGED FROM training/resume: What a run takes up of itself when it is resumed.


def fit_and_test(
    trainer: Trainer, task: SegmentationTask, data: SegmentationData, folder: Path, last: Path | None
) -> dict[str, Any]:
    """Fits, from the checkpoint `last` on if there is one, and tests; the result is the best checkpoint's contents.

    Raises `UserError` where the training came to no checkpoint of use. Ctrl-C, SIGTERM and SIGUSR1 end the
    process with the status that a shell expects.
    """
    interruption = next(hook for hook in trainer.callbacks if isinstance(hook, Preemption))  # type: ignore[attr-defined]
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
    trainer.profiler = PassThroughProfiler()  # type: ignore[attr-defined]  # profiles are of the training
    trainer.test(task, datamodule=data, verbose=False)
    return contents


log = logging.getLogger(__name__)

Config = Mapping[str, Any]

_RESULTS = ("report.json", "report.md", "error.txt")
_PRUNED = "pruned.txt"


def resume_training(
    trainer: Trainer, task: SegmentationTask, history: History, config: Config, folder: Path
) -> Path:
    """The checkpoint from which the run in `folder` goes on; `history`, `trainer` and folder are prepared for it.

    What the run had come to before is removed: whoever found it would take the run for finished.
    Raises `UserError` where there is no checkpoint, or one that does not fit.
    """
    last = folder / "checkpoints" / "last.ckpt"
    contents = checkpoint.read(last)
    if contents["segmentation"].get("model") != task.model.description:
        raise UserError(f"{last} holds another model than its run's config describes: it cannot be resumed.")
    epoch, batches = _progress(contents, last)
    history.resume_after(epoch)
    log.info("resuming after epoch %d%s", epoch, f" and {batches} batches of the next" if batches else "")
    _tell_of_the_missing(trainer, contents)
    alike = _ends_alike(config, folder)
    for hook in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(hook, Preemption):
            hook.stays_stopped = alike
    if trainer.is_global_zero:
        for name in (*_RESULTS, *(() if alike and Preemption.has_stopped(contents) else (_PRUNED,))):
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


@library_warnings_hidden()
def train(config: Config, source: SegmentationDataset, folder: Path) -> float:
    """Fits, tests the best checkpoint and fills the run folder; the result is that checkpoint's val/miou.

    Of several processes the first alone writes; for the others the result is nan.
    Raises `UserError` for whatever in the config or the data the user can mend.
    """
    start = time.perf_counter()
    settings = read_training_settings(config)
    seed_everything(settings.seed, workers=True, verbose=False)
    task = build.build_task(settings, source)
    data = build.build_data(settings, source)
    history = History(folder / "metrics.csv")
    trainer = build.build_trainer(settings, folder, source.classes, history)
    last = resume_training(trainer, task, history, config, folder) if settings.resume else None
    if last is None and (folder / "checkpoints" / "last.ckpt").exists():
        raise UserError(
            f"{folder} already holds a run: go on with resume={folder}, or give another hydra.run.dir."
        )
    if trainer.is_global_zero:
        _keep_inputs(config, source, folder)
    _announce(source, task, trainer)
    with worker_processes(trainer):
        about = fit_and_test(trainer, task, data, folder, last)
    if not trainer.is_global_zero:
        return math.nan
    report = _report(settings, source, task, trainer, history, about)
    write_report(folder, {**report, "seconds": time.perf_counter() - start})
    log_summary(trainer.loggers, config, report["metrics"])
    log.info("\n%s\n\nThe run folder: %s", table(report["metrics"], report["per_class"]), folder)
    score: float = report["metrics"]["val/miou"]
    return score


def _report(
    settings: TrainingSettings,
    source: SegmentationDataset,
    task: SegmentationTask,
    trainer: Trainer,
    history: History,
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything that a run's report says, the test's scores beside those of the best checkpoint's epoch."""
    epoch = about["epoch"] + 1
    seen = {name: value for name, value in history.row(epoch).items() if name.startswith(("train/", "val/"))}
    tested = {f"test/{name}": value for name, value in task.test_metrics.scores().items()}
    return {
        "metrics": seen | tested,
        "per_class": per_class(task.test_metrics.confusion.compute(), source.classes.names),
        "protocol": {**about["segmentation"]["protocol"], "checkpoint": f"best.ckpt, epoch {epoch}"},
        "model": {**task.model.description, "parameters": _parameters(task)},
        "data": {**settings.dataset, "images": _lengths(source), "notes": list(source.notes)},
        "environment": {
            "device": device_name(),
            "processes": trainer.world_size,
            "precision": trainer.precision,
            **versions(),
        },
    }


def _keep_inputs(config: Config, source: SegmentationDataset, folder: Path) -> None:
    write_text(folder / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False))
    write_split(folder / "split.csv", source)


def _announce(source: SegmentationDataset, task: SegmentationTask, trainer: Trainer) -> None:
    images = ", ".join(f"{count} {split}" for split, count in _lengths(source).items())
    log.info("data: %d classes, images: %s", len(source.classes), images)
    for note in source.notes:
        log.info("note: %s", note)
    device = trainer.strategy.root_device.type
    log.info("model: %.1f M parameters, %s on %s", _parameters(task) / 1e6, trainer.precision, device)


def _lengths(source: SegmentationDataset) -> dict[str, int]:
    return {split: len(samples) for split, samples in source.splits().items()}


def _parameters(task: SegmentationTask) -> int:
    return sum(parameter.numel() for parameter in task.model.parameters())
