"""A training run from config to report: `train.py` calls this."""

import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning import Trainer, seed_everything

from segmentation import build
from segmentation.callbacks import History, log_summary
from segmentation.data.source import Source
from segmentation.data.split import write_split
from segmentation.environment import device_name, versions
from segmentation.errors import UserError
from segmentation.metrics import per_class
from segmentation.processes import company
from segmentation.quiet import hushed
from segmentation.report import table, write_report
from segmentation.report.text import write_text
from segmentation.settings import Settings, read_settings
from segmentation.task import SegmentationTask
from segmentation.training.fit import fit_and_test
from segmentation.training.resume import take_up

log = logging.getLogger(__name__)

Config = Mapping[str, Any]


@hushed()
def train(config: Config, source: Source, folder: Path) -> float:
    """Fits, tests the best checkpoint and fills the run folder; the result is that checkpoint's val/miou.

    Of several processes the first alone writes; for the others the result is nan.
    Raises `UserError` for whatever in the config or the data the user can mend.
    """
    start = time.perf_counter()
    settings = read_settings(config)
    seed_everything(settings.seed, workers=True, verbose=False)
    task = build.build_task(settings, source)
    data = build.build_data(settings, source)
    history = History(folder / "metrics.csv")
    trainer = build.build_trainer(settings, folder, source.classes, history)
    last = take_up(trainer, task, history, config, folder) if settings.resume else None
    if last is None and (folder / "checkpoints" / "last.ckpt").exists():
        raise UserError(
            f"{folder} already holds a run: go on with resume={folder}, or give another hydra.run.dir."
        )
    if trainer.is_global_zero:
        _keep_inputs(config, source, folder)
    _announce(source, task, trainer)
    with company(trainer):
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
    settings: Settings,
    source: Source,
    task: SegmentationTask,
    trainer: Trainer,
    history: History,
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything that a run's report says, the test's scores beside those of the best checkpoint's epoch."""
    epoch = about["epoch"] + 1
    seen = {name: value for name, value in history.row(epoch).items() if name.startswith(("train/", "val/"))}
    tested = {f"test/{name}": value for name, value in task.test_tally.scores().items()}
    return {
        "metrics": seen | tested,
        "per_class": per_class(task.test_tally.confusion.compute(), source.classes.names),
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


def _keep_inputs(config: Config, source: Source, folder: Path) -> None:
    write_text(folder / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False))
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
