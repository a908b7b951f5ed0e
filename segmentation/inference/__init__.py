"""A checkpoint put to use: pictures of any size, one by one or by window, and videos."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    compile: bool = False,
) -> "Predictor":
    """The `Predictor` of a checkpoint file.

    Raises `UserError` for a file that is no checkpoint of ours, and where `Predictor` does.
    """
    from segmentation.checkpoint import load as load_checkpoint
    from segmentation.inference.predictor import Predictor

    trained = load_checkpoint(Path(path).expanduser())
    return Predictor(trained, device=device, precision=precision, tta=tta, compile=compile)


def __getattr__(name: str) -> Any:
    # torch takes seconds to import: a wrong file name is told before.
    if name == "Predictor":
        from segmentation.inference.predictor import Predictor

        return Predictor
    if name == "Prediction":
        from segmentation.inference.outputs import Prediction

        return Prediction
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
