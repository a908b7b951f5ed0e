"""Prediction with a checkpoint: images of any size, whole or by tiles, and videos."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segmentation.config import EnsembleKind, checkpoint_files

if TYPE_CHECKING:
    from segmentation.inference.outputs import Prediction
    from segmentation.inference.predictor import Predictor
    from segmentation.inference.tta import Augmentation

__all__ = ["Prediction", "Predictor", "load"]


def load(
    path: str | Path | Sequence[str | Path],
    *,
    device: str = "auto",
    precision: str = "auto",
    tta: "Augmentation" = "none",
    threshold: float | str = "auto",
    compile: bool = False,
    ensemble: EnsembleKind = "mean",
    disagreement: bool = False,
) -> "Predictor":
    """The `Predictor` of a checkpoint file, of a run's folder (its best.ckpt), or of a file that `export.py` wrote.

    Several are one model: with `ensemble="mean"` the mean of their probabilities, with "weights" the mean of their
    weights. `disagreement` of them, or of the views of `tta`, is then in the predictions, too.

    `threshold`, for binary models only, is the probability from which a pixel is foreground: a number from 0 to 1,
    "auto" (the checkpoint's own) or "best" (the best one on the validation split: see `with_threshold`).

    Raises `UserError` for a file that is neither of ours, for several that cannot be one model, and where `Predictor`
    and `with_threshold` do.
    """
    from segmentation.inference.ensemble import open_predictor

    return open_predictor(
        checkpoint_files(path),
        ensemble=ensemble,
        threshold=threshold,
        device=device,
        precision=precision,
        tta=tta,
        compile=compile,
        disagreement=disagreement,
    )


def __getattr__(name: str) -> Any:
    # torch takes seconds to import: a wrong file name is reported before that.
    if name == "Predictor":
        from segmentation.inference.predictor import Predictor

        return Predictor
    if name == "Prediction":
        from segmentation.inference.outputs import Prediction

        return Prediction
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
