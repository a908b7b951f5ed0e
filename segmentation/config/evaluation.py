"""The options of evaluating checkpoints, and of the leaderboard of runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

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
from segmentation.options import call, check_ranges


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings(Checkpoints):
    """`conf/evaluate.yaml` says what each is for."""

    ensemble: EnsembleKind | None = None
    dataset: dict[str, Any]
    split: Literal["train", "val", "test"]
    tta: str | float | list[str | float]
    threshold: Threshold
    write_threshold: bool
    calibrate: bool = False
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
    def device(self) -> Accelerator:
        """Where it is computed: "auto" is the processor for exported models, and for checkpoints beside them."""
        exported = any(path.suffix == ".onnx" for path in self.checkpoints)
        return "cpu" if exported and self.accelerator == "auto" else self.accelerator

    @property
    def saves_masks(self) -> bool:
        """Whether the predicted masks are saved, too. Raises `UserError` for another kind of file."""
        return bool(kinds_of_files("save", self.save, ["mask"]))


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
    if settings.calibrate and (settings.split != "val" or settings.tta not in ("none", [])):
        raise UserError(
            "calibrate=true needs split=val and tta=none: the temperature is the model's own, and one fitted on "
            "the test split makes its probabilities there look too good."
        )
    if settings.calibrate and settings.threshold != "auto":
        raise UserError(
            "calibrate=true needs threshold=auto: the checkpoint's own threshold moves along with the temperature. "
            "write_threshold=true keeps another."
        )
    if not settings.objects and (settings.watershed or settings.min_area):
        raise UserError("watershed and min_area are for objects: give objects=true, or leave them out.")
    settings.require_checkpoints()
    if settings.ensemble and len(settings.checkpoints) == 1:
        raise UserError(f"ensemble={settings.ensemble} is for several checkpoints: give checkpoint=[A,B].")
    if settings.ensemble and (settings.write_threshold or settings.calibrate):
        raise UserError(
            "write_threshold and calibrate write into one checkpoint: leave them out, or ensemble."
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
