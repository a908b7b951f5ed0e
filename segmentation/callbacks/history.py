"""The run's history: `metrics.csv`, an epoch a row, and a line on the console for each."""

import csv
import logging
from argparse import Namespace
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from segmentation.files import replacing

# MERGED FROM callbacks/curves: `curves.png`: how loss, pixel accuracy and mIoU went, for train and val.

log = logging.getLogger(__name__)

_HEADLINES = ("train/loss", "val/loss", "val/miou", "train/images_per_second")
_WHOLE = ("epoch", "step")

Row = dict[str, float]


class History(Logger):
    """Gathers what is logged for an epoch into one row and rewrites the file with it.

    Epochs count from 1. A resumed run keeps the rows of the epochs before it.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._rows: dict[int, Row] = {}

    @property
    def name(self) -> str:
        """Lightning asks every logger for one."""
        return "history"

    @property
    def version(self) -> str:
        """One history a run folder."""
        return ""

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The configuration is kept in `config.yaml`."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Adds to the epoch's row; the training's own scores come last and complete it."""
        if "epoch" not in metrics or any(name.startswith("test/") for name in metrics):
            return
        epoch = int(metrics["epoch"]) + 1
        row = self._rows.setdefault(epoch, {})
        row.update(metrics, epoch=epoch, step=step or 0)
        if "train/loss" in metrics or "val/loss" in metrics:
            self._write()  # the validation's at once: the epoch's checkpoint comes before the training's scores
        if "train/loss" in metrics:
            log.info(_line(row))

    def go_on_after(self, epoch: int) -> None:
        """Takes up the file's rows up to `epoch`; those after it a resumed run will write again."""
        rows = {int(row["epoch"]): row for row in read_history(self.path)}
        self._rows = {number: row for number, row in rows.items() if number <= epoch}

    def row(self, epoch: int) -> Row:
        """What was measured in `epoch`; empty where that is not known."""
        return self._rows.get(epoch, {})

    def _write(self) -> None:
        rows = [self._rows[epoch] for epoch in sorted(self._rows)]
        names = sorted({name for row in rows for name in row} - set(_WHOLE))
        with replacing(self.path, newline="") as file:
            writer = csv.DictWriter(file, [*_WHOLE, *names])
            writer.writeheader()
            writer.writerows(rows)


def read_history(path: Path) -> list[Row]:
    """The rows of a `metrics.csv` with what each epoch measured; none where there is no file yet."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [
            {name: int(value) if name in _WHOLE else float(value) for name, value in row.items() if value}
            for row in csv.DictReader(file)
        ]


def _line(row: Row) -> str:
    numbers = "  ".join(f"{name} {row[name]:.4g}" for name in _HEADLINES if name in row)
    return f"epoch {row['epoch']:>3}  {numbers}"


_PANELS = {"loss": "loss", "pixel_accuracy": "pixel accuracy", "miou": "mIoU"}
_COLOURS = {"train": "#4477aa", "val": "#cc6677"}


class TrainingCurves(Callback):
    """Draws `metrics.csv` when the training ends, also when it is interrupted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The finished run."""
        self._draw(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """What there is of an interrupted one."""
        self._draw(trainer)

    def _draw(self, trainer: Trainer) -> None:
        if trainer.is_global_zero:
            draw_curves(self._folder / "metrics.csv", self._folder / "curves.png")


def draw_curves(history: Path, picture: Path) -> None:
    """Draws the history file, a panel for each quantity, as a PNG; nothing where no epoch was finished."""
    rows = read_history(history)
    if not rows:
        return
    # Imported here: half a second that only the end of a run has to spend. No pyplot: it wants a screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(13, 4), layout="constrained")
    for axes, (name, title) in zip(figure.subplots(1, len(_PANELS)), _PANELS.items(), strict=True):
        for split, colour in _COLOURS.items():
            points = [(row["epoch"], row[f"{split}/{name}"]) for row in rows if f"{split}/{name}" in row]
            if points:
                axes.plot(*zip(*points, strict=True), color=colour, label=split, marker=".", markersize=4)
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if name != "loss":
            axes.set_ylim(0, 1)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    FigureCanvasAgg(figure).print_png(picture)
