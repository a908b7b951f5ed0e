"""The options of training, of the benchmark, and of looking at a data set: those that have the groups of `conf/`."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from segmentation import hub
from segmentation.config.common import Precision, Section, Side
from segmentation.errors import UserError, closest
from segmentation.options import call, check_ranges
from segmentation.ranges import NOT_HERE
from segmentation.types import Classes


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
    pixel_range: Literal["auto", "full"] | list[Any] = "auto"
    sampler: Literal["shuffled", "balanced"] = "shuffled"
    focus: Annotated[float, Field(ge=0, le=1)] = 0.5

    @property
    def input(self) -> dict[str, Any]:
        """The part that a checkpoint must know to use its model as it was trained."""
        return {"size": self.size, "resize": self.resize}


@dataclass(frozen=True, kw_only=True)
class Auxiliary:
    """The auxiliary head, which is used in training only, and the weight of its loss."""

    aux: bool
    aux_weight: float


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The part of a composed config that a model and its training step are built from.

    The names in the groups' sections are checked when the objects they describe are built.
    """

    output_stride: int | Literal["auto"]
    precision: Precision
    channels_last: bool
    data: ImageSettings
    backbone: Section
    head: Section
    loss: Section
    optimizer: Section


def _inside_outputs(name: str) -> str:
    if ".." in PurePath(name).parts or PurePath(name).is_absolute():
        raise ValueError("leads out of outputs/; hydra.run.dir=FOLDER chooses any folder")
    return name


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(ModelSettings):
    """A composed config of a training run."""

    name: Annotated[str, AfterValidator(_inside_outputs)]
    compile: bool
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    calibrate: bool = False
    weights: str
    weights_mean: list[float] | None = None
    weights_std: list[Annotated[float, Field(gt=0)]] | None = None
    weights_licence: Annotated[str, Field(max_length=200)] | None = None
    resume: str | None
    plan: Literal["auto", "none"]
    planned: list[str] = field(default_factory=list)
    given: list[str] | None = None
    data: DataSettings
    dataset: Section
    augmentation: Section
    scheduler: Section
    trainer: Section
    callbacks: Section
    logger: Section


def read_training_settings(config: Mapping[str, Any]) -> TrainingSettings:
    """The config with its types checked.

    Raises `UserError` for an option that does not exist, is missing, or has a value that it cannot have.
    """
    sections = dict(config)
    data = sections.get("data")
    if isinstance(data, dict):
        sections["data"] = call("data", DataSettings, **data)
    settings = call("", TrainingSettings, **sections)
    check_ranges(config)
    # A resumed run has its weights from the checkpoint.
    if (
        settings.resume is None
        and "/" in settings.weights
        and not hub.is_named(settings.weights)
        and not Path(settings.weights).expanduser().exists()
    ):
        raise UserError(
            f"weights={settings.weights} is no file. Give imagenet, coco, none or the path of a state dict."
        )
    given = (settings.weights_mean, settings.weights_std)
    if any(given) and not all(values and len(values) == settings.data.channels for values in given):
        raise UserError(
            f"weights_mean and weights_std have a number for each of the {settings.data.channels} bands: give both."
        )
    for option, instead in NOT_HERE.items():
        if option in settings.trainer:
            raise UserError(f"trainer.{option} cannot be set: {instead}.")
    return settings


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long one measurement takes."""

    warmup: Annotated[int, Field(ge=0)]
    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    steps: Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True)
class BenchmarkSettings(ModelSettings):
    """A composed config of a benchmark."""

    outputs: Annotated[int, Field(ge=1, le=255)]
    runs: str | list[str] | None
    measure: Budget

    @property
    def classes(self) -> Classes:
        """Placeholder classes, one for each output; one output means binary data."""
        count = max(self.outputs, 2)
        return Classes(tuple(f"class {index}" for index in range(count)), binary=self.outputs == 1)


def read_benchmark_settings(config: Mapping[str, Any]) -> BenchmarkSettings:
    """The config with its types checked.

    Raises `UserError` for an option that does not exist, is missing, or has a value that it cannot have.
    """
    sections = dict(config)
    for name, part in (("data", ImageSettings), ("measure", Budget)):
        if isinstance(sections.get(name), dict):
            sections[name] = call(name, part, **sections[name])
    check_ranges(config)
    return call("", BenchmarkSettings, **sections)


@dataclass(frozen=True, kw_only=True)
class InspectedImages:
    """`data` in `conf/inspect.yaml`; without a size or `resize` the planner chooses them."""

    channels: Annotated[int, Field(ge=1, le=128)]
    pixel_range: Literal["auto", "full"] | list[Any]
    size: tuple[Side, Side] | None
    resize: bool | None


@dataclass(frozen=True, kw_only=True)
class InspectionSettings:
    """`conf/inspect.yaml` says what each is for; `given` are the options that were typed, which are not planned."""

    dataset: Section
    data: InspectedImages
    plan: Literal["auto", "none"]
    format: Literal["text", "json"]
    only: list[str]
    skip: list[str]
    strict: bool
    workers: Annotated[int, Field(ge=1)] | Literal["auto"]
    output: str
    given: list[str] = field(default_factory=list)


def read_inspection_settings(config: Mapping[str, Any], known: Collection[str]) -> InspectionSettings:
    """The config with its types checked; `known` are the ids of findings.

    Raises `UserError` for an option that does not exist or has a value that it cannot have, for an unknown id, and
    without a data set.
    """
    sections = dict(config)
    if isinstance(sections.get("data"), Mapping):
        sections["data"] = call("data", InspectedImages, **sections["data"])
    for option in ("only", "skip"):
        if isinstance(sections.get(option), str):
            sections[option] = [sections[option]]
    settings = call("", InspectionSettings, **sections)
    for option, ids in (("only", settings.only), ("skip", settings.skip)):
        for each in ids:
            if each not in known:
                raise UserError(f"{option}={each} is no finding.{closest(each, known)}")
    if "name" not in settings.dataset:
        raise UserError("Which data? Give dataset=NAME dataset.root=PATH.")
    return settings
