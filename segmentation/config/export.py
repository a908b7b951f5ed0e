"""The options of export."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from segmentation import hub
from segmentation.config.common import checkpoint_file, kinds_of_files
from segmentation.errors import UserError
from segmentation.options import call

Layout = Literal["nhwc", "nchw"]
GraphOutput = Literal["labels", "probabilities"]


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """`conf/export.yaml` says what each is for."""

    checkpoint: str
    format: Literal["onnx"]
    output: str | None
    layout: Layout
    outputs: str | Annotated[list[str], Field(min_length=1)]
    verify: str | None
    split: Literal["train", "val", "test"]
    existing: Literal["refuse", "overwrite"]
    push: str | None = None
    private: bool = True
    licence: Annotated[str, Field(max_length=200)] | None = None

    @property
    def file(self) -> Path:
        """The checkpoint."""
        return checkpoint_file(self.checkpoint)

    @property
    def target(self) -> Path:
        """The file to write. Raises `UserError` for another ending."""
        if self.output is None:
            return self.file.with_suffix(".onnx")
        path = Path(self.output).expanduser()
        if path.suffix != ".onnx":
            raise UserError(f"output={self.output} is no ONNX file: give a name that ends in .onnx.")
        return path

    @property
    def hub_folder(self) -> Path:
        """The folder to write for the hub."""
        file = self.file
        return file.with_name(f"{file.stem}-hub") if self.output is None else Path(self.output).expanduser()

    @property
    def kinds(self) -> list[GraphOutput]:
        """What the graph gives, in its order. Raises `UserError` for another name."""
        named = kinds_of_files("outputs", self.outputs, get_args(GraphOutput))
        return [kind for kind in get_args(GraphOutput) if kind in named]


def read_export_settings(config: Mapping[str, Any]) -> ExportSettings:
    """The config with its types checked.

    Raises `UserError` for an option that does not exist, is missing, or has a value that it cannot have, and for a
    checkpoint that is missing.
    """
    settings = call("", ExportSettings, **config)
    if settings.push is None:
        _ = settings.target  # a wrong name is an error here
    else:
        hub.check_name(settings.push)
    _ = settings.kinds
    if not settings.file.is_file():
        raise UserError(
            f"There is no checkpoint {settings.file}. Give a file such as RUN/checkpoints/best.ckpt."
        )
    return settings
