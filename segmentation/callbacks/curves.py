"""`curves.png`: how loss, pixel accuracy and mIoU went, for train and val."""

from pathlib import Path

from pytorch_lightning import Callback, LightningModule, Trainer

from segmentation.callbacks.history import read_history

_PANELS = {"loss": "loss", "pixel_accuracy": "pixel accuracy", "miou": "mIoU"}
_COLOURS = {"train": "#4477aa", "val": "#cc6677"}


class Curves(Callback):
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
