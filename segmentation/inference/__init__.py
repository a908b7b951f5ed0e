"""Prediction with a checkpoint: images of any size, whole or by tiles, and videos."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from segmentation.config import checkpoint_file

if TYPE_CHECKING:
    from segmentation.inference.outputs import Prediction
    from segmentation.inference.predictor import Predictor
    from segmentation.inference.tta import Augmentation

__all__ = ["Prediction", "Predictor", "load"]


def load(
    path: str | Path,
    *,
    device: str = "auto",
    precision: str = "auto",
    tta: "Augmentation" = "none",
    threshold: float | str = "auto",
    compile: bool = False,
) -> "Predictor":
    """The `Predictor` of a checkpoint file, of a run's folder (its best.ckpt), or of a file that `export.py` wrote.

    `threshold`, for binary models only, is the probability from which a pixel is foreground: a number from 0 to 1,
    "auto" (the checkpoint's own) or "best" (the best one on the validation split: see `with_threshold`).

    Raises `UserError` for a file that is neither of ours, and where `Predictor` and `with_threshold` do.
    """
    from segmentation import checkpoint
    from segmentation.inference.predictor import Predictor

    path = checkpoint_file(path)
    trained = checkpoint.with_threshold(checkpoint.load(path), path, threshold)
    return Predictor(trained, device=device, precision=precision, tta=tta, compile=compile)


def __getattr__(name: str) -> Any:
    # torch takes seconds to import: a wrong file name is reported before that.
    if name == "Predictor":
        from segmentation.inference.predictor import Predictor

        return Predictor
    if name == "Prediction":
        from segmentation.inference.outputs import Prediction

        return Prediction
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
