"""A training run from config to report: `train.py` calls `train`."""

import errno
import logging
import math
import sys
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything
from pytorch_lightning.callbacks import Timer
from pytorch_lightning.loggers import Logger
from pytorch_lightning.profilers import PassThroughProfiler
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

from segmentation import build, checkpoint
from segmentation.callbacks import History, Preemption, closing, draw_curves, log_choices, log_summary
from segmentation.config import TrainingSettings, read_training_settings
from segmentation.data.datamodule import LoaderError, SegmentationData
from segmentation.data.dataset import SegmentationDataset
from segmentation.data.splits import write_split
from segmentation.distributed import process_group
from segmentation.environment import device_name, versions
from segmentation.errors import UserError
from segmentation.library_warnings import library_warnings_hidden
from segmentation.metrics import constant_baseline, per_class
from segmentation.reading import read_yaml
from segmentation.report import table, write_report
from segmentation.task import SegmentationTask
from segmentation.writing import write_text

log = logging.getLogger(__name__)

Config = Mapping[str, Any]

_RESULTS = ("report.json", "report.md", "error.txt")
_PRUNED = "pruned.txt"


@library_warnings_hidden()
def train(config: Config, dataset: SegmentationDataset, folder: Path) -> float:
    """Fits, tests the best checkpoint and fills the run folder; returns that checkpoint's val/miou.

    Only the first of several processes writes; the others return nan. Ctrl-C, SIGTERM and SIGUSR1 end the process
    with the status that a shell expects (130, 143, 138), after a checkpoint where there is something to keep.
    Raises `UserError` for whatever in the config or the data the user can correct.
    """
    start = time.perf_counter()
    settings = read_training_settings(config)
    if settings.weights == "auto":  # kept as what it means here: a resumed run has the same
        settings = build.with_weights(settings)
        config = {**config, "weights": settings.weights, "planned": [*settings.planned, "weights"]}
    seed_everything(settings.seed, workers=True, verbose=False)
    task = build.build_task(settings, dataset)
    data = build.build_data(settings, dataset)
    history = History(folder / "metrics.csv")
    trainer = build.build_trainer(settings, folder, dataset.classes, history)
    preemption = next(hook for hook in trainer.callbacks if isinstance(hook, Preemption))  # type: ignore[attr-defined]
    last, stale = resume_training(trainer, task, history, config, folder) if settings.resume else (None, ())
    if last is None and (folder / "checkpoints" / "last.ckpt").exists():
        raise UserError(
            f"{folder} already holds a run: go on with resume={folder}, or give another hydra.run.dir."
        )
    _announce(dataset, task, trainer)
    # Lightning will ask for them too, but after it has opened a TensorBoard file.
    task.scheduler(task.optimizer(task.model), total_steps=1, steps_per_epoch=1, epochs=trainer.max_epochs)
    first_step = FirstStep(partial(_begin, config, dataset, folder, stale, trainer.loggers))
    trainer.callbacks.append(first_step)  # type: ignore[attr-defined]
    with process_group(trainer), closing(trainer.loggers):
        try:
            with preemption.listening(trainer):
                trainer.fit(task, datamodule=data, ckpt_path=last, weights_only=True)
                first_step.begin(trainer)  # of a run that had been trained to its end, and had none
                _log_limit(trainer)
                best = _test_best(trainer, task, data, folder, calibrate=settings.calibrate)
        except (KeyboardInterrupt, SystemExit):
            sys.exit(preemption.status)
        except Exception as error:
            if preemption.gave_up:
                sys.exit(preemption.status)
            if (message := _explained(error, trainer, folder, resumed=last is not None)) is None:
                raise
            raise UserError(message) from error
    if not trainer.is_global_zero:
        return math.nan
    report = _report(settings, dataset, task, trainer, history, best)
    write_report(folder, {**report, "seconds": time.perf_counter() - start})
    log_summary(trainer.loggers, config, report["metrics"])
    log.info("\n%s\n\nThe run folder: %s", table(report), folder)
    score: float = report["metrics"]["val/miou"]
    return score


def _is_of_state(error: Exception, *, resumed: bool) -> bool:
    """Whether the error is of what a checkpoint holds of the training.

    It arises where Lightning gives the trainer, the callbacks and the optimizers their states, or later in a step of
    the optimizer, which takes any state.
    """
    if not isinstance(error, checkpoint.UNFIT) or isinstance(error, torch.OutOfMemoryError):
        return False
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    restoring = any(frame.f_code.co_filename.endswith("checkpoint_connector.py") for frame in frames)
    return restoring or (resumed and "optim" in frames[-1].f_globals["__name__"].split("."))


class FirstStep(Callback):
    """Calls `action` once, in the first process, when there is a batch to train or a validation to run.

    By then the options, the data and the checkpoint have been accepted, so a run that is refused changes nothing.
    """

    def __init__(self, action: Callable[[], None]) -> None:
        self._action: Callable[[], None] | None = action

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The usual beginning."""
        self.begin(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The beginning of a run that was cut off in its validation."""
        self.begin(trainer)

    def begin(self, trainer: Trainer) -> None:
        """Does nothing the second time."""
        action, self._action = self._action, None
        if action is not None and trainer.is_global_zero:
            action()


def _begin(
    config: Config, dataset: SegmentationDataset, folder: Path, stale: Collection[str], loggers: list[Logger]
) -> None:
    """Makes the folder that of this run: removes `stale` results, with which it would look finished."""
    for name in stale:
        (folder / name).unlink(missing_ok=True)
    write_text(folder / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False))
    write_split(folder / "split.csv", dataset)
    log_choices(loggers, config)


def _explained(error: Exception, trainer: Trainer, folder: Path, *, resumed: bool) -> str | None:
    """What the user can do about an error of Lightning or of the machine; None for any other."""
    last = folder / "checkpoints" / "last.ckpt"
    go_on = f"then go on with resume={folder}" if last.exists() else "then start anew"
    if last.exists() and _is_of_state(error, resumed=resumed):
        cause = next(iter(str(error).splitlines()), type(error).__name__)
        return (
            f"{last} does not fit the run: the state of its training is damaged or of another version ({cause})."
            f" Start anew, with its weights by weights={last}."
        )
    if isinstance(error, MisconfigurationException):
        return f"trainer: {str(error).splitlines()[0]}"
    if isinstance(error, ValueError) and "val_check_interval" in str(error):
        return (
            f"trainer.val_check_interval={trainer.val_check_interval}: an epoch has {trainer.num_training_batches}"
            " batches. Give at most that, or a share of it such as 0.5."
        )
    # While torch.save handles the system's error, it raises one of its own.
    if any(isinstance(each, OSError) and each.errno == errno.ENOSPC for each in (error, error.__context__)):
        return f"The disk of {folder} is full. Make room, {go_on}."
    if type(error).__module__.startswith("wandb.errors"):
        return f"logger=wandb: {next(iter(str(error).splitlines()), type(error).__name__).rstrip('.')}."
    if isinstance(error, LoaderError):
        return f"{str(error).removesuffix('.')}, {go_on}."
    return None


def _announce(dataset: SegmentationDataset, task: SegmentationTask, trainer: Trainer) -> None:
    images = ", ".join(f"{count} {split}" for split, count in _lengths(dataset).items())
    log.info("data: %d classes, images: %s", len(dataset.classes), images)
    for note in dataset.notes:
        log.info("note: %s", note)
    device = trainer.strategy.root_device.type
    log.info("model: %.1f M parameters, %s on %s", _parameters(task) / 1e6, trainer.precision, device)


def _log_limit(trainer: Trainer) -> None:
    """Says which of the trainer's limits ended the training; early stopping and pruning speak for themselves."""
    timers = [hook for hook in trainer.callbacks if isinstance(hook, Timer)]  # type: ignore[attr-defined]
    if 0 < trainer.max_steps <= trainer.global_step:
        limit = f"trainer.max_steps={trainer.max_steps}"
    elif any((timer.time_remaining() or 0) < 0 for timer in timers):
        limit = "trainer.max_time"
    else:
        return
    log.info("ended in epoch %d of %s by %s", trainer.current_epoch, trainer.max_epochs, limit)


def _test_best(
    trainer: Trainer, task: SegmentationTask, data: SegmentationData, folder: Path, *, calibrate: bool
) -> dict[str, Any]:
    """Draws the curves, calibrates and tests the run's best checkpoint and returns its contents.

    Raises `UserError` if there is none that can be used.
    """
    best = folder / "checkpoints" / "best.ckpt"
    if not best.is_file():
        raise UserError(
            "The run ended before its first validation, so there is no best checkpoint: give it more"
            " trainer.max_epochs, max_steps or max_time, or a smaller check_val_every_n_epoch."
        )
    contents = checkpoint.read(best)
    if trainer.is_global_zero:
        draw_curves(folder / "metrics.csv", folder / "curves.png", contents["epoch"] + 1)
    weights: dict[str, Any] = checkpoint.model_weights(contents)
    for name, values in weights.items():
        # Such a model predicts one class everywhere, and would have a score like any other.
        if not bool(torch.isfinite(values).all()):
            raise UserError(
                f"The training diverged: in {best} the weights {name} are not finite. Start anew"
                " with a smaller optimizer.lr, or with precision=32-true."
            )
    # This also loads into a model that is sharded between processes.
    set_model_state_dict(task.model, weights, options=StateDictOptions(full_state_dict=True))
    trainer.profiler = PassThroughProfiler()  # type: ignore[attr-defined]  # profiles are of the training
    if calibrate:
        task.calibrate(trainer, data.val_dataloader())
        if trainer.is_global_zero:
            checkpoint.write_temperature(best, task.decision)
            log.info("temperature %.4g, fitted on the val split", task.decision.temperature)
    trainer.test(task, datamodule=data, verbose=False)
    return contents


def _report(
    settings: TrainingSettings,
    dataset: SegmentationDataset,
    task: SegmentationTask,
    trainer: Trainer,
    history: History,
    best: Mapping[str, Any],
) -> dict[str, Any]:
    """The run's report: the test's scores, those of the validation that chose the checkpoint, and its epoch's training.

    A resumed run that has lost metrics.csv does not know the latter.
    """
    epoch = best["epoch"] + 1
    measured = {**history.row(epoch), **best.get("val_scores", {})}
    measured.setdefault("val/miou", math.nan)
    if "train/loss" not in measured:
        log.warning("metrics.csv has no epoch %d: the report lacks its training scores", epoch)
    seen = {name: value for name, value in measured.items() if name.startswith(("train/", "val/"))}
    counts_KK = task.test_metrics.confusion.compute()
    tested = {f"test/{name}": value for name, value in task.test_metrics.scores().items()}
    return {
        "metrics": seen | tested,
        "per_class": per_class(counts_KK, dataset.classes.names),
        "baseline": constant_baseline(counts_KK, dataset.classes.names, binary=dataset.classes.binary),
        "protocol": {
            **best["segmentation"]["protocol"],
            **({"temperature": task.decision.temperature} if settings.calibrate else {}),
            "checkpoint": f"best.ckpt, epoch {epoch}",
        },
        "model": {**task.model.description, "parameters": _parameters(task)},
        "data": {**settings.dataset, "images": _lengths(dataset), "notes": list(dataset.notes)},
        "environment": {
            "device": device_name(trainer.strategy.root_device),
            "processes": trainer.world_size,
            "precision": trainer.precision,
            **versions(),
        },
    }


def _lengths(dataset: SegmentationDataset) -> dict[str, int]:
    return {split: len(samples) for split, samples in dataset.splits().items()}


def _parameters(task: SegmentationTask) -> int:
    return sum(parameter.numel() for parameter in task.model.parameters())


def resume_training(
    trainer: Trainer, task: SegmentationTask, history: History, config: Config, folder: Path
) -> tuple[Path, Collection[str]]:
    """The checkpoint from which the run in `folder` goes on, and the files there that will be stale.

    Prepares `history` and `trainer` for it. Raises `UserError` where there is no checkpoint, or one that does not fit.
    """
    last = folder / "checkpoints" / "last.ckpt"
    contents = checkpoint.read(last)
    if contents["segmentation"].get("model") != task.model.description:
        raise UserError(f"{last} holds another model than its run's config describes: it cannot be resumed.")
    epoch, batches = _progress(contents, last)
    if trainer.max_epochs is not None and epoch > trainer.max_epochs:
        raise UserError(
            f"trainer.max_epochs={trainer.max_epochs}, but the run in {folder} has {epoch} epochs already:"
            f" type trainer.max_epochs={epoch} or more beside resume."
        )
    history.resume_after(epoch, begun=batches > 0)
    log.info("resuming after epoch %d%s", epoch, f" and {batches} batches of the next" if batches else "")
    _log_missing_callbacks(trainer, contents)
    ends_the_same = _ends_the_same(config, folder)
    for hook in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(hook, Preemption):
            hook.stays_stopped = ends_the_same
    stays_pruned = ends_the_same and Preemption.has_stopped(contents)
    return last, _RESULTS if stays_pruned else (*_RESULTS, _PRUNED)


def _progress(contents: Mapping[str, Any], path: Path) -> tuple[int, int]:
    """Finished epochs, and batches of the epoch that was begun."""
    try:
        loops = contents["loops"]["fit_loop"]
        epochs = loops["epoch_progress"]["current"]
        batches = loops["epoch_loop.batch_progress"]["current"]["completed"]
        _check_counts(contents["loops"])
        return int(epochs["processed"]), int(batches) if epochs["started"] > epochs["processed"] else 0
    except checkpoint.UNFIT as error:
        raise UserError(f"{path} holds a model, but not how far its training was.") from error


def _check_counts(state: Any) -> None:
    """Raises `ValueError` where the state of a loop holds anything but counts: Lightning would add to it later."""
    if isinstance(state, Mapping):
        for part in state.values():
            _check_counts(part)
    elif not isinstance(state, int) or not 0 <= state < 2**53:
        raise ValueError


def _log_missing_callbacks(trainer: Trainer, contents: Mapping[str, Any]) -> None:
    kept = {hook.state_key for hook in trainer.callbacks}  # type: ignore[attr-defined]
    earlier = contents.get("callbacks")  # a damaged one is told when it is restored
    missing = sorted(
        str(key).partition("{")[0] for key in set(earlier if isinstance(earlier, Mapping) else ()) - kept
    )
    if missing:
        log.info("switched off, or changed, since the run began: %s", ", ".join(missing))


def _ends_the_same(config: Config, folder: Path) -> bool:
    """Whether the options that end the training are those of the earlier run."""
    try:
        earlier = read_yaml(folder / "config.yaml")
        return all(earlier[section] == config[section] for section in ("callbacks", "trainer"))
    except (OSError, UserError, KeyError, TypeError):
        return False
