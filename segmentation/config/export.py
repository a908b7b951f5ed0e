"""The options of export."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from segmentation import hub
from segmentation.config.common import Checkpoints, kinds_of_files
from segmentation.errors import UserError
from segmentation.options import call

Layout = Literal["nhwc", "nchw"]
ExportFormat = Literal["onnx", "qgis", "torch_export", "state_dict", "torchvision"]
ExportPrecision = Literal["fp32", "fp16", "int8"]
GraphOutput = Literal["labels", "probabilities"]

_ENDINGS: Mapping[ExportFormat, str] = {
    "onnx": ".onnx",
    "qgis": ".onnx",
    "torch_export": ".pt2",
    "state_dict": ".safetensors",
    "torchvision": ".pth",
}
_GRAPHS = ("onnx", "qgis")


@dataclass(frozen=True, kw_only=True)
class ExportSettings(Checkpoints):
    """`conf/export.yaml` says what each is for."""

    format: ExportFormat
    output: str | None
    layout: Layout
    outputs: str | Annotated[list[str], Field(min_length=1)]
    precision: ExportPrecision
    calibration: str | None
    keep_float: str | list[str]
    verify: str | None
    split: Literal["train", "val", "test"]
    existing: Literal["refuse", "overwrite"]
    push: str | None = None
    private: bool = True
    licence: Annotated[str, Field(max_length=200)] | None = None

    @property
    def file(self) -> Path:
        """The checkpoint, of several the first."""
        return self.checkpoints[0]

    @property
    def target(self) -> Path:
        """The file to write. Raises `UserError` for another ending."""
        ending = _ENDINGS[self.format]
        if self.output is None:
            kind = "" if self.format == "onnx" else f".{self.format}"
            lower = "" if self.precision == "fp32" else f".{self.precision}"
            return self.file.with_suffix(f"{kind}{lower}{ending}")
        path = Path(self.output).expanduser()
        if path.suffix != ending:
            raise UserError(
                f"output={self.output} is no file of format={self.format}: give a name that ends in {ending}."
            )
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

    @property
    def kept(self) -> list[str]:
        """The parts of the network that stay in float32."""
        return [self.keep_float] if isinstance(self.keep_float, str) else self.keep_float

    def check(self) -> None:
        """Raises `UserError` for options that do not go together."""
        kinds = self.kinds
        if self.push is not None:
            self._check_push()
        elif self.licence is not None or not self.private:
            raise UserError("private and licence are for push: give push=user/name, or leave them out.")
        named = [self.checkpoint] if isinstance(self.checkpoint, str) else self.checkpoint
        if self.output is None and len(named) > 1:
            raise UserError("The mean of several checkpoints has no name of its own: give output=.")
        if self.output is None and hub.is_named(named[0]):
            raise UserError(f"checkpoint={named[0]} lies in the hub's cache: give output=.")
        if self.format not in _GRAPHS and self.precision != "fp32":
            raise UserError(f"precision is not for format={self.format}: leave it out.")
        if self.format not in ("onnx", "torch_export") and self.layout != "nhwc":
            raise UserError(f"layout is not for format={self.format}: leave it out.")
        if self.format != "onnx" and kinds != ["labels"]:
            raise UserError(f"outputs are for format=onnx, not for {self.format}: leave them out.")
        if self.precision == "int8" and self.calibration is None:
            raise UserError(
                "precision=int8 needs pictures to measure: give calibration=PATH, a folder or a data set."
            )
        if self.precision != "int8" and self.calibration is not None:
            raise UserError("calibration is for precision=int8: give both, or leave it out.")
        if self.precision == "fp32" and self.kept:
            raise UserError("keep_float is for precision=fp16 and int8: give one of them, or leave it out.")

    def _check_push(self) -> None:
        of_files = {
            "format": self.format != "onnx",
            "layout": self.layout != "nhwc",
            "outputs": self.kinds != ["labels"],
            "precision": self.precision != "fp32",
            "calibration": self.calibration is not None,
            "keep_float": bool(self.kept),
        }
        given = next((option for option, unused in of_files.items() if unused), None)
        if given is not None:
            raise UserError(f"{given} is not for push, which uploads weights in float32: leave it out.")


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
        if "@" in settings.push:
            raise UserError(f"push={settings.push}: a revision is for reading: give user/name.")
    settings.check()
    settings.require_checkpoints()
    return settings
