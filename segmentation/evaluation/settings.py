"""The options of an evaluation, with their types and ranges."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from segmentation.errors import UserError
from segmentation.options import call


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """`conf/evaluate.yaml` says what each is for."""

    checkpoint: str | Annotated[list[str], Field(min_length=1)]
    dataset: dict[str, Any]
    split: Literal["train", "val", "test"]
    tta: str | float | list[str | float]
    save: list[Literal["masks"]]
    batch_size: Annotated[int, Field(ge=1)]
    workers: Annotated[int, Field(ge=0)] | Literal["auto"]
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
    trainer: dict[str, Any]
    accelerator: Literal["auto", "cpu", "gpu"]
    compile: bool
    output: str

    @property
    def checkpoints(self) -> list[Path]:
        """The files to judge, in the order given."""
        given = [self.checkpoint] if isinstance(self.checkpoint, str) else self.checkpoint
        return [Path(path).expanduser() for path in given]


def read_settings(config: Mapping[str, Any]) -> EvaluationSettings:
    """The config with its types checked.

    Raises `UserError` for an option that does not exist or has a value that it cannot have, and for a
    checkpoint that is missing or given twice.
    """
    settings = call("", EvaluationSettings, **config)
    files = [path.resolve() for path in settings.checkpoints]
    for path, file in zip(settings.checkpoints, files, strict=True):
        if not file.is_file():
            raise UserError(f"There is no checkpoint {path}. Give a file such as RUN/checkpoints/best.ckpt.")
        if files.count(file) > 1:
            raise UserError(f"checkpoint: {path} is given twice: name each once.")
    return settings
