"""From a checkpoint and files to answers in a folder: `predict.py` calls this."""

import logging
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field
from tqdm import tqdm

from segmentation.config import call
from segmentation.errors import UserError, closest
from segmentation.inference import load
from segmentation.inference.inputs import Input, find_inputs
from segmentation.inference.outputs import KINDS, Existing, Kind, OutputPaths, plan_outputs
from segmentation.inference.video import Render, overlays, predict_video
from segmentation.library_warnings import library_warnings_hidden

if TYPE_CHECKING:
    from segmentation.inference import Predictor

log = logging.getLogger(__name__)

_SOME_FAILED = 1


@dataclass(frozen=True, kw_only=True)
class PredictionSettings:
    """`conf/predict.yaml` says what each is for."""

    checkpoint: str
    input: str | int
    output: str
    save: str | Annotated[list[str], Field(min_length=1)]
    alpha: Annotated[float, Field(ge=0, le=1)]
    tta: str | float | list[str | float]
    tile: Annotated[int, Field(ge=16)] | None
    overlap: Annotated[int, Field(ge=0)] | None
    existing: Existing
    batch_size: Annotated[int, Field(ge=1)]
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
    accelerator: Literal["auto", "cpu", "gpu"]
    compile: bool

    @property
    def kinds(self) -> list[Kind]:
        """What is saved of a picture. Raises `UserError` for what cannot be."""
        if self.save == "auto":
            return ["mask"]
        named = [self.save] if isinstance(self.save, str) else self.save
        for name in named:
            if name == "auto":
                raise UserError("save: auto stands alone. Give save=auto, or name what you want.")
            if name not in KINDS:
                raise UserError(f"save={name} is unknown.{closest(name, ('auto', *KINDS))}")
        return [kind for kind in KINDS if kind in named]

    @property
    def folder(self) -> Path:
        """Where the answers go."""
        return Path(self.output).expanduser()


@library_warnings_hidden()
def predict(config: Mapping[str, Any]) -> float:
    """Answers for all that `input` names; the result is how many files were answered.

    What of several files cannot be used is reported, left out and listed at the end, and the process ends with
    status 1. Raises `UserError` for wrong options, a single file that cannot be used, and where nothing is found.
    """
    settings = call("", PredictionSettings, **config)
    given = str(settings.input)
    if given.isdecimal() and not Path(given).exists():
        _refuse_stills(settings, f"camera {given}")
        render = _render(settings, _predictor(settings))
        log.info("%s", predict_video(render, int(given), settings.folder, batch_size=settings.batch_size))
        return 1.0
    sources, alone = find_inputs(given, settings.folder)
    for source in sources:
        if source.is_video:
            hint = "" if alone else ", or name the pictures alone: input='FOLDER/**/*.png'"
            _refuse_stills(settings, str(source.path), hint)
    kinds = settings.kinds
    predictor = _predictor(settings)
    targets = plan_outputs(
        sources,
        kinds,
        settings.folder,
        binary=predictor.trained.classes.binary,
        tiled=settings.tile is not None,
        existing=settings.existing,
    )
    if len(targets) < len(sources):
        log.info("%d of %d were done earlier", len(sources) - len(targets), len(sources))
    return _run(settings, predictor, targets, alone)


def _run(
    settings: PredictionSettings, predictor: "Predictor", targets: Mapping[Input, OutputPaths], alone: bool
) -> float:
    # After the files were found: torch takes seconds that a wrong name should not cost.
    from segmentation.inference.batches import Files

    start = time.perf_counter()
    watched = sys.stderr.isatty()
    tiling = predictor.tiling(
        tile=settings.tile, overlap=settings.overlap, batch_size=settings.batch_size, progress=watched
    )
    videos = {source: paths for source, paths in targets.items() if source.is_video}
    pictures = {source: paths for source, paths in targets.items() if not source.is_video}
    with tqdm(total=len(targets), unit="file", disable=not watched or len(targets) < 2) as bar:
        files = Files(predictor, settings.alpha, alone, bar.update)
        files.run_videos(videos, _render(settings, predictor), settings.batch_size)
        if tiling is None:
            files.run(pictures, settings.batch_size)
        else:
            files.run_tiles(pictures, tiling)
    answered = len(targets) - len(files.failures)
    log.info("%d done in %.1f s: %s", answered, time.perf_counter() - start, settings.folder)
    if files.failures:
        lines = "".join(f"  {failure}\n" for failure in files.failures)
        sys.stderr.write(f"{len(files.failures)} of {len(targets)} files were left out:\n{lines}")
        sys.exit(_SOME_FAILED)
    return float(answered)


def _predictor(settings: PredictionSettings) -> "Predictor":
    return load(
        settings.checkpoint,
        device=settings.accelerator,
        precision=settings.precision,
        tta=settings.tta,
        compile=settings.compile,
    )


def _render(settings: PredictionSettings, predictor: "Predictor") -> Render:
    return overlays(predictor, alpha=settings.alpha, tile=settings.tile, overlap=settings.overlap)


def _refuse_stills(settings: PredictionSettings, what: str, hint: str = "") -> None:
    if settings.save != "auto" and settings.kinds != ["overlay"]:
        raise UserError(f"save={settings.save}: of {what} the overlay alone is saved. Leave save out{hint}.")
