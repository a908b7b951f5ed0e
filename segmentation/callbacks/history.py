"""The history of a run: `metrics.csv` and `classes.csv` with one row per epoch, a console line, and `curves.png`."""

import csv
import logging
from argparse import Namespace
from io import StringIO
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from segmentation.errors import UserError
from segmentation.reading import read_text
from segmentation.report.colours import SPLITS
from segmentation.writing import replacing

log = logging.getLogger(__name__)

_CONSOLE_METRICS = ("train/loss", "val/loss", "val/miou", "train/images_per_second")
_INTEGERS = ("epoch", "step")
_CLASSES = "val_iou/"  # what the IoU of a class is logged under

Row = dict[str, float]


class History(Logger):
    """A Lightning logger that collects what is logged for an epoch into one row and rewrites the files.

    The IoU of each class goes to `classes.csv` beside the file at `path`, everything else to that one. Epochs count
    from 1. A resumed run keeps the earlier rows.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._rows: dict[int, Row] = {}

    @property
    def name(self) -> str:
        """Required by Lightning."""
        return "history"

    @property
    def version(self) -> str:
        """Empty: one history per run folder."""
        return ""

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Does nothing: the configuration is in `config.yaml`."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Adds to the epoch's row; the training scores come last and complete it."""
        if "epoch" not in metrics or any(name.startswith("test/") for name in metrics):
            return
        epoch = int(metrics["epoch"]) + 1
        row = self._rows.setdefault(epoch, {})
        row.update(metrics, epoch=epoch, step=step or 0)
        if "train/loss" in metrics or "val/loss" in metrics:
            self._write()  # write validation scores at once: the checkpoint is written before the training scores come
        if "train/loss" in metrics:
            log.info(_line(row))

    def resume_after(self, epoch: int, *, begun: bool = False) -> None:
        """Reads the files' rows up to `epoch`; a resumed run writes the later ones again.

        Where the next epoch was `begun`, its row is read, too: it may hold validations that are not repeated.
        """
        self._rows = {}
        for row in (*read_history(self.path), *read_history(self._classes)):
            if (number := int(row.get("epoch", epoch + 2))) <= epoch + begun:
                self._rows.setdefault(number, {}).update(row)

    def row(self, epoch: int) -> Row:
        """The row of `epoch`; empty if it is unknown."""
        return self._rows.get(epoch, {})

    @property
    def _classes(self) -> Path:
        return self.path.with_name("classes.csv")

    def _write(self) -> None:
        rows = [self._rows[epoch] for epoch in sorted(self._rows)]
        names = dict.fromkeys(name for row in rows for name in row if name not in _INTEGERS)
        by_class = [name for name in names if name.startswith(_CLASSES)]
        for path, columns in (
            (self.path, sorted(names.keys() - set(by_class))),
            (self._classes, by_class),
        ):
            with replacing(path, newline="") as file:
                writer = csv.DictWriter(file, [*_INTEGERS, *columns], extrasaction="ignore")
                writer.writeheader()
                writer.writerows(rows)


def read_history(path: Path) -> list[Row]:
    """The rows of a `metrics.csv`, without empty cells; none if there is no file yet.

    Raises `UserError` for a damaged file.
    """
    if not path.exists():
        return []
    try:
        return [
            {name: int(value) if name in _INTEGERS else float(value) for name, value in row.items() if value}
            for row in csv.DictReader(StringIO(read_text(path), newline=""), strict=True)
        ]
    except (csv.Error, ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}): remove it, or its last lines.") from error


def _line(row: Row) -> str:
    """Short enough for a terminal of 80 columns."""
    shown = {
        name.replace("train/images_per_second", "img/s"): row[name]
        for name in _CONSOLE_METRICS
        if name in row
    }
    numbers = "  ".join(f"{name} {value:.4g}" for name, value in shown.items())
    return f"epoch {row['epoch']:>3}  {numbers}"


_PANELS = {"loss": "loss", "pixel_accuracy": "pixel accuracy", "miou": "mIoU"}


class CurvesOfInterrupted(Callback):
    """Draws `curves.png` from `metrics.csv` when a run ends early; that of a finished one also shows its best epoch."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Draw what there is."""
        if trainer.is_global_zero:
            draw_curves(self._folder / "metrics.csv", self._folder / "curves.png")


def draw_curves(history: Path, picture: Path, best: int | None = None) -> None:
    """Draws a history file as a PNG, one panel per quantity; nothing if no epoch was finished.

    `best` is the epoch of best.ckpt, which is marked.
    """
    rows = read_history(history)
    if not rows:
        return
    # Imported here, because it takes half a second. Not pyplot, which may want a screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(13, 4), layout="constrained")
    for axes, (name, title) in zip(figure.subplots(1, len(_PANELS)), _PANELS.items(), strict=True):
        for split, colour in SPLITS.items():
            points = [(row["epoch"], row[f"{split}/{name}"]) for row in rows if f"{split}/{name}" in row]
            if points:
                axes.plot(*zip(*points, strict=True), color=colour, label=split, marker=".", markersize=4)
        axes.set(title=title, xlabel="epoch", xlim=(0.5, rows[-1]["epoch"] + 0.5))
        if best is not None:
            axes.axvline(best, color="#999999", linestyle=":", label=f"best.ckpt, epoch {best}")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if name != "loss":
            axes.set_ylim(0, 1)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    with replacing(picture, "wb") as file:
        FigureCanvasAgg(figure).print_png(file)
