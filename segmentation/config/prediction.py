"""The options of prediction, and what they say of videos, objects and polygons."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from segmentation.config.common import (
    Accelerator,
    Checkpoints,
    EnsembleKind,
    Precision,
    Threshold,
    check_threshold,
    kinds_of_files,
)
from segmentation.errors import UserError
from segmentation.options import call

OutputKind = Literal[
    "mask",
    "overlay",
    "probability",
    "disagreement",
    "objects",
    "polygons",
    "labelme",
    "geojson",
    "coco",
    "cvat",
]
OUTPUT_KINDS: tuple[OutputKind, ...] = get_args(OutputKind)
ANNOTATION_FILES: Mapping[OutputKind, str] = {"coco": "annotations.json", "cvat": "annotations.xml"}
"""The outputs that are one file for all pictures, and the names of these."""
ANNOTATIONS: tuple[OutputKind, ...] = ("labelme", "geojson", *ANNOTATION_FILES)
"""The outputs that labelling tools open."""
Existing = Literal["refuse", "skip", "overwrite"]
PolygonFormat = Literal["gpkg", "geojson"]
_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


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
class PredictionSettings(Checkpoints):
    """`conf/predict.yaml` says what each is for."""

    ensemble: EnsembleKind = "mean"
    input: str | int
    output: str
    save: str | Annotated[list[str], Field(min_length=1)]
    pseudo_labels: Annotated[float, Field(gt=0, le=1)] | Literal["auto"] | None = None
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
        named = kinds_of_files("save", self.save, OUTPUT_KINDS)
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
    if settings.ensemble != "mean" and len(settings.checkpoints) == 1:
        raise UserError(f"ensemble={settings.ensemble} is for several checkpoints: give checkpoint=[A,B].")
    if settings.pseudo_labels is not None and settings.save != "auto":
        raise UserError("pseudo_labels writes a data set and nothing else: leave save out.")
    if settings.pseudo_labels is not None and settings.existing != "refuse":
        raise UserError("pseudo_labels begins a data set in a new folder: leave existing out.")
    if settings.end is not None and settings.end <= settings.start:
        raise UserError(f"end={settings.end} is not after start={settings.start}: give a later second.")
    return settings


@dataclass(frozen=True, kw_only=True)
class AppSettings(Checkpoints):
    """`conf/app.yaml` says what each is for."""

    host: str
    port: Annotated[int, Field(ge=0, le=65535)]
    browser: bool
    threshold: Threshold
    tta: str | float | list[str | float]
    tile: Annotated[int, Field(ge=16)] | None
    overlap: Annotated[int, Field(ge=0)] | None
    max_upload: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    max_pixels: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    max_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    precision: Precision
    accelerator: Accelerator


def read_app_settings(config: Mapping[str, Any]) -> AppSettings:
    """The config with its types checked.

    Raises `UserError` for an option that does not exist, is missing, or has a value that it cannot have.
    """
    settings = call("", AppSettings, **config)
    check_threshold(settings.threshold)
    return settings


@dataclass(frozen=True, kw_only=True)
class SelectionSettings(Checkpoints):
    """`conf/select.yaml` says what each is for."""

    input: str | int
    count: Annotated[int, Field(ge=1)]
    output: str
    by: Literal["entropy", "disagreement"]
    candidates: Annotated[int, Field(ge=1)] | Literal["all"]
    labelled: str | None
    group: str | None
    save: str | list[str]
    tta: str | float | list[str | float]
    precision: Precision
    accelerator: Accelerator

    @property
    def folder(self) -> Path:
        """Where the selection goes."""
        return Path(self.output).expanduser()


def read_selection_settings(config: Mapping[str, Any]) -> SelectionSettings:
    """The config with its types checked.

    Raises `UserError` for an option that does not exist, is missing, or has a value that it cannot have.
    """
    settings = call("", SelectionSettings, **config)
    kinds_of_files("save", settings.save, ("mask", "overlay", *ANNOTATIONS))
    return settings
