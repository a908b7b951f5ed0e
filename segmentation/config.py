"""The options of every command, with their types: `conf/` says what each is for, `ranges.py` has the ranges."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field

from segmentation.errors import UserError, closest
from segmentation.options import call, check_ranges
from segmentation.ranges import NOT_HERE
from segmentation.types import Classes

# Types that several settings share.
Side = Annotated[int, Field(ge=1)]
_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Section = dict[str, Any]
_SHORT_PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


def full_precision(given: Any) -> Any:
    """Lightning's name of a precision: 32, bf16 and 16 are short for 32-true, bf16-mixed and 16-mixed."""
    return _SHORT_PRECISIONS.get(str(given), given)


Precision = Annotated[Literal["auto", "32-true", "bf16-mixed", "16-mixed"], BeforeValidator(full_precision)]
Accelerator = Literal["auto", "cpu", "gpu"]
OutputKind = Literal[
    "mask", "overlay", "probability", "objects", "polygons", "labelme", "geojson", "coco", "cvat"
]
OUTPUT_KINDS: tuple[OutputKind, ...] = get_args(OutputKind)
ANNOTATION_FILES: Mapping[OutputKind, str] = {"coco": "annotations.json", "cvat": "annotations.xml"}
"""The outputs that are one file for all pictures, and the names of these."""
ANNOTATIONS: tuple[OutputKind, ...] = ("labelme", "geojson", *ANNOTATION_FILES)
"""The outputs that labelling tools open."""
Existing = Literal["refuse", "skip", "overwrite"]
PolygonFormat = Literal["gpkg", "geojson"]
Layout = Literal["nhwc", "nchw"]
GraphOutput = Literal["labels", "probabilities"]
Threshold = float | str
"""A number from 0 to 1, "auto" (the checkpoint's own) or "best" (the best one on the validation split)."""


def checkpoint_file(given: str | Path) -> Path:
    """The file of a checkpoint that is given by its path, or by its run's folder, of which it is best.ckpt."""
    path = Path(given).expanduser()
    best = path / "checkpoints" / "best.ckpt"
    return best if best.is_file() else path


def _kinds(option: str, given: str | list[str], known: Sequence[str]) -> list[str]:
    """The kinds of files that an option names, one or a list, in any number: mask, masks and [mask] are the same."""
    named = [given] if isinstance(given, str) else given
    kinds = {kind.removesuffix("s"): kind for kind in known}
    for name in named:
        if name.removesuffix("s") not in kinds:
            raise UserError(f"{option}={name} is unknown.{closest(name, known)}")
    return [kinds[name.removesuffix("s")] for name in named]


def check_threshold(threshold: Threshold) -> None:
    """Raises `UserError` for anything but a number from 0 to 1, "auto" or "best"."""
    if isinstance(threshold, str):
        valid = threshold in ("auto", "best")
    else:
        valid = isinstance(threshold, int | float) and not isinstance(threshold, bool) and 0 <= threshold <= 1
    if not valid:
        raise UserError(f"threshold={threshold} is not possible: give a number from 0 to 1, auto or best.")


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
    weights: str
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
        and not Path(settings.weights).expanduser().exists()
    ):
        raise UserError(
            f"weights={settings.weights} is no file. Give imagenet, coco, none or the path of a state dict."
        )
    for option, instead in NOT_HERE.items():
        if option in settings.trainer:
            raise UserError(f"trainer.{option} cannot be set: {instead}.")
    return settings


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """`conf/evaluate.yaml` says what each is for."""

    checkpoint: str | Annotated[list[str], Field(min_length=1)]
    dataset: dict[str, Any]
    split: Literal["train", "val", "test"]
    tta: str | float | list[str | float]
    threshold: Threshold
    write_threshold: bool
    save: str | list[str]
    objects: bool = False
    watershed: bool = False
    min_area: Annotated[int, Field(ge=0)] = 0
    batch_size: Annotated[int, Field(ge=1)]
    workers: Annotated[int, Field(ge=0)] | Literal["auto"]
    precision: Precision
    trainer: dict[str, Any]
    accelerator: Accelerator
    compile: bool
    output: str

    @property
    def checkpoints(self) -> list[Path]:
        """The files to evaluate, in the order given."""
        given = [self.checkpoint] if isinstance(self.checkpoint, str) else self.checkpoint
        return [checkpoint_file(path) for path in given]

    @property
    def device(self) -> Accelerator:
        """Where it is computed: "auto" is the processor for exported models, and for checkpoints beside them."""
        exported = any(path.suffix == ".onnx" for path in self.checkpoints)
        return "cpu" if exported and self.accelerator == "auto" else self.accelerator

    @property
    def saves_masks(self) -> bool:
        """Whether the predicted masks are saved, too. Raises `UserError` for another kind of file."""
        return bool(_kinds("save", self.save, ["mask"]))


def read_evaluation_settings(config: Mapping[str, Any]) -> EvaluationSettings:
    """The config with its types checked.

    Raises `UserError` for an option that does not exist or has a value that it cannot have, for a checkpoint that
    is missing or given twice, for a threshold to be written from another split than val, and for options of objects
    without objects.
    """
    settings = call("", EvaluationSettings, **config)
    check_ranges(config)
    check_threshold(settings.threshold)
    _ = settings.saves_masks  # a wrong name is an error here
    if settings.write_threshold and settings.split != "val":
        raise UserError(
            f"write_threshold=true needs split=val: a threshold chosen on the {settings.split} split "
            f"makes its scores there too good."
        )
    if not settings.objects and (settings.watershed or settings.min_area):
        raise UserError("watershed and min_area are for objects: give objects=true, or leave them out.")
    files = [path.resolve() for path in settings.checkpoints]
    for path, file in zip(settings.checkpoints, files, strict=True):
        if not file.is_file():
            raise UserError(f"There is no checkpoint {path}. Give a file such as RUN/checkpoints/best.ckpt.")
        if files.count(file) > 1:
            raise UserError(f"checkpoint: {path} is given twice: name each once.")
    return settings


@dataclass(frozen=True)
class Span:
    """Part of a video: from `start` up to `end` (seconds, None: to its end), of it every so many frames."""

    start: float = 0.0
    end: float | None = None
    every: int = 1

    @property
    def is_cut(self) -> bool:
        """Whether it lacks the beginning or the end."""
        return self.start > 0 or self.end is not None


@dataclass(frozen=True, kw_only=True)
class ObjectOptions:
    """Which objects a table has: parted or not, and the least area, in pixels or by the side of a pixel in any unit."""

    watershed: bool = False
    min_area: float = 0.0
    pixel_size: float | None = None


@dataclass(frozen=True, kw_only=True)
class PolygonOptions:
    """How a mask becomes polygons: areas in square metres, the tolerance in metres, `regularise` as the least IoU."""

    format: PolygonFormat = "gpkg"
    min_area: float = 0.0
    simplify: float = 0.0
    fill_holes: float = 0.0
    regularise: float | None = None


@dataclass(frozen=True, kw_only=True)
class PredictionSettings:
    """`conf/predict.yaml` says what each is for."""

    checkpoint: str
    input: str | int
    output: str
    save: str | Annotated[list[str], Field(min_length=1)]
    legend: bool = False
    start: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    end: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    every: Annotated[int, Field(ge=1)] = 1
    alpha: Annotated[float, Field(ge=0, le=1)]
    min_area: _Amount = 0.0
    pixel_size: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    watershed: bool = False
    polygons_format: PolygonFormat = "gpkg"
    simplify: _Amount = 0.0
    fill_holes: _Amount = 0.0
    regularise: Annotated[float, Field(gt=0, le=1)] | None = None
    threshold: Threshold
    tta: str | float | list[str | float]
    tile: Annotated[int, Field(ge=16)] | None
    overlap: Annotated[int, Field(ge=0)] | None
    existing: Existing
    batch_size: Annotated[int, Field(ge=1)]
    precision: Precision
    accelerator: Accelerator
    compile: bool

    @property
    def kinds(self) -> list[OutputKind]:
        """What is saved for an image. Raises `UserError` for an unknown kind."""
        if self.save == "auto":
            return ["mask"]
        if "auto" in self.save and isinstance(self.save, list):
            raise UserError(
                "save: auto cannot be combined with others. Give save=auto, or name what you want."
            )
        named = _kinds("save", self.save, OUTPUT_KINDS)
        return [kind for kind in OUTPUT_KINDS if kind in named]

    @property
    def own_kinds(self) -> list[OutputKind]:
        """Those of which each image has a file of its own."""
        return [kind for kind in self.kinds if kind not in ANNOTATION_FILES]

    @property
    def video_kinds(self) -> list[OutputKind]:
        """What is saved for a video. Raises `UserError` for an unknown kind."""
        return ["overlay"] if self.save == "auto" else self.kinds

    @property
    def objects(self) -> ObjectOptions:
        """Which objects a table has."""
        return ObjectOptions(watershed=self.watershed, min_area=self.min_area, pixel_size=self.pixel_size)

    @property
    def polygons(self) -> PolygonOptions:
        """How masks become polygons."""
        return PolygonOptions(
            format=self.polygons_format,
            min_area=self.min_area,
            simplify=self.simplify,
            fill_holes=self.fill_holes,
            regularise=self.regularise,
        )

    @property
    def span(self) -> Span:
        """The part of a video that is predicted."""
        return Span(self.start, self.end, self.every)

    @property
    def folder(self) -> Path:
        """Where the predictions go."""
        return Path(self.output).expanduser()


def read_prediction_settings(config: Mapping[str, Any]) -> PredictionSettings:
    """The config with its types checked.

    Raises `UserError` for an option that does not exist, is missing, or has a value that it cannot have.
    """
    settings = call("", PredictionSettings, **config)
    check_threshold(settings.threshold)
    if settings.end is not None and settings.end <= settings.start:
        raise UserError(f"end={settings.end} is not after start={settings.start}: give a later second.")
    return settings


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
    def kinds(self) -> list[GraphOutput]:
        """What the graph gives, in its order. Raises `UserError` for another name."""
        named = _kinds("outputs", self.outputs, get_args(GraphOutput))
        return [kind for kind in get_args(GraphOutput) if kind in named]


def read_export_settings(config: Mapping[str, Any]) -> ExportSettings:
    """The config with its types checked.

    Raises `UserError` for an option that does not exist, is missing, or has a value that it cannot have, and for a
    checkpoint that is missing.
    """
    settings = call("", ExportSettings, **config)
    _ = settings.target, settings.kinds  # a wrong name is an error here
    if not settings.file.is_file():
        raise UserError(
            f"There is no checkpoint {settings.file}. Give a file such as RUN/checkpoints/best.ckpt."
        )
    return settings


@dataclass(frozen=True, kw_only=True)
class LeaderboardSettings:
    """A composed config of a leaderboard."""

    runs: str | list[str]
    metric: str
    latency: Annotated[float, Field(ge=0, le=60)]
    benchmarks: str | None
    output: str | None

    @property
    def folders(self) -> list[Path]:
        """Where the runs are."""
        given = [self.runs] if isinstance(self.runs, str) else self.runs
        return [Path(folder).expanduser() for folder in given]

    @property
    def target(self) -> Path:
        """Where the results go."""
        return Path(self.output).expanduser() if self.output else self.folders[0]


def read_leaderboard_settings(config: Mapping[str, Any]) -> LeaderboardSettings:
    """The config with its types checked.

    Raises `UserError` for an option that does not exist, is missing, or has a value that it cannot have.
    """
    return call("", LeaderboardSettings, **config)


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
