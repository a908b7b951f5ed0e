"""The options of a run that are no group's own, with their types and ranges."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from segmentation.options import call

Side = Annotated[int, Field(ge=1)]
Section = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ImageSettings:
    """The images that a model sees."""

    channels: Annotated[int, Field(ge=1, le=128)] = 3  # OpenCV 5 augments no more than 128
    size: tuple[Side, Side]
    batch_size: Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True)
class DataSettings(ImageSettings):
    """How images become batches: `conf/train.yaml` says what each is for."""

    resize: bool
    workers: Annotated[int, Field(ge=0)] | Literal["auto"]
    cache: Literal["none", "disk"] = "none"

    @property
    def input(self) -> dict[str, Any]:
        """The part that a checkpoint must know to use its model as it was trained."""
        return {"size": self.size, "resize": self.resize}


@dataclass(frozen=True, kw_only=True)
class Auxiliary:
    """The second head, in training alone, and the share of its loss."""

    aux: bool
    aux_weight: Annotated[float, Field(ge=0)]


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """A composed config, as far as a model to train is made of it.

    The groups' sections are held against the things that they are for when these are built.
    """

    output_stride: int | Literal["auto"]
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
    channels_last: bool
    data: ImageSettings
    backbone: Section
    head: Section
    loss: Section
    optimizer: Section


@dataclass(frozen=True, kw_only=True)
class Settings(ModelSettings):
    """A composed config of a training run."""

    name: str
    compile: bool
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    weights: str
    resume: str | None
    data: DataSettings
    dataset: Section
    augmentation: Section
    scheduler: Section
    trainer: Section
    callbacks: Section
    logger: Section


def read_settings(config: Mapping[str, Any]) -> Settings:
    """The config with its types checked.

    Raises `UserError` for an option that does not exist, is missing, or has a value that it cannot have.
    """
    sections = dict(config)
    data = sections.get("data")
    if isinstance(data, dict):
        sections["data"] = call("data", DataSettings, **data)
    return call("", Settings, **sections)
