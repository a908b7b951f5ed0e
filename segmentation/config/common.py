"""Types and checks of options that several commands have."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from segmentation import hub
from segmentation.errors import UserError, closest

Side = Annotated[int, Field(ge=1)]
Section = dict[str, Any]
Accelerator = Literal["auto", "cpu", "gpu"]
EnsembleKind = Literal["mean", "weights"]
"""How several checkpoints become one: the mean of their probabilities, or one model of the mean of their weights."""
Threshold = float | str
"""A number from 0 to 1, "auto" (the checkpoint's own) or "best" (the best one on the validation split)."""

_SHORT_PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


def full_precision(given: Any) -> Any:
    """Lightning's name of a precision: 32, bf16 and 16 are short for 32-true, bf16-mixed and 16-mixed."""
    return _SHORT_PRECISIONS.get(str(given), given)


Precision = Annotated[Literal["auto", "32-true", "bf16-mixed", "16-mixed"], BeforeValidator(full_precision)]


def checkpoint_file(given: str | Path) -> Path:
    """The file of a checkpoint that is given by its path, by `hub:user/name`, or by its folder.

    Of a run's folder it is best.ckpt, of a folder as on the hub the file of its weights.
    """
    if isinstance(given, str) and hub.is_named(given):
        return hub.fetch(given)
    path = Path(given).expanduser()
    inside = (path / "checkpoints" / "best.ckpt", path / hub.WEIGHTS)
    return next((file for file in inside if file.is_file()), path)


def _path(given: Any) -> str | Path:
    if not isinstance(given, str | Path):
        kind = type(given).__name__
        raise UserError(f"checkpoint: {kind} is no path: give one such as RUN/checkpoints/best.ckpt.")
    return given


def require_checkpoint(path: Path) -> Path:
    """The same file. Raises `UserError` where it is none."""
    if not path.is_file():
        raise UserError(f"There is no checkpoint {path}. Give a file such as RUN/checkpoints/best.ckpt.")
    return path


def checkpoint_files(given: str | Path | Sequence[str | Path]) -> list[Path]:
    """The files of one checkpoint or several. Raises `UserError` for one that is given twice, and for no path."""
    several = isinstance(given, Iterable) and not isinstance(given, str | Path)
    listed: Any = given if several else [given]
    paths = [checkpoint_file(_path(each)) for each in listed]
    if not paths:
        raise UserError("checkpoint: the list is empty: name one at least.")
    files = [path.resolve() for path in paths]
    for path, file in zip(paths, files, strict=True):
        if files.count(file) > 1:
            raise UserError(f"checkpoint: {path} is given twice: name each once.")
    return paths


@dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """The option `checkpoint` of commands that take one or several."""

    checkpoint: str | Annotated[list[str], Field(min_length=1)]

    @property
    def checkpoints(self) -> list[Path]:
        """The files, in the order given. Raises `UserError` where `checkpoint_files` does."""
        return checkpoint_files(self.checkpoint)

    def require_checkpoints(self) -> None:
        """Raises `UserError` for a file that is missing."""
        for path in self.checkpoints:
            require_checkpoint(path)


def check_threshold(threshold: Threshold) -> None:
    """Raises `UserError` for anything but a number from 0 to 1, "auto" or "best"."""
    if isinstance(threshold, str):
        valid = threshold in ("auto", "best")
    else:
        valid = isinstance(threshold, int | float) and not isinstance(threshold, bool) and 0 <= threshold <= 1
    if not valid:
        raise UserError(f"threshold={threshold} is not possible: give a number from 0 to 1, auto or best.")


def kinds_of_files(option: str, given: str | list[str], known: Sequence[str]) -> list[str]:
    """The kinds of files that an option names, one or a list, in any number: mask, masks and [mask] are the same."""
    named = [given] if isinstance(given, str) else given
    kinds = {kind.removesuffix("s"): kind for kind in known}
    for name in named:
        if name.removesuffix("s") not in kinds:
            raise UserError(f"{option}={name} is unknown.{closest(name, known)}")
    return [kinds[name.removesuffix("s")] for name in named]
