"""Predict with a checkpoint: files, videos and cameras in, a folder of predictions out. `predict.py` calls this."""

import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from segmentation.config import PredictionSettings, Span, read_prediction_settings
from segmentation.errors import UserError
from segmentation.inference import load
from segmentation.inference.inputs import Input, find_inputs
from segmentation.inference.outputs import OutputPaths, plan_outputs
from segmentation.inference.video import Render, overlays, predict_video
from segmentation.library_warnings import library_warnings_hidden

if TYPE_CHECKING:
    from segmentation.inference import Predictor

log = logging.getLogger(__name__)

_SOME_FAILED = 1


@library_warnings_hidden()
def predict(config: Mapping[str, Any]) -> float:
    """Predict for everything that `input` names; returns the number of files that were predicted.

    Of several files, those that cannot be used are reported, left out and listed at the end, and the process exits
    with status 1. Raises `UserError` for wrong options, for a single file that cannot be used, and if nothing is found.
    """
    settings = read_prediction_settings(config)
    given = str(settings.input)
    if given.isdecimal() and not Path(given).exists():
        if settings.video_kinds != ["overlay"]:
            raise UserError(
                f"save={settings.save}: of camera {given} the overlay alone is saved. Leave save out."
            )
        render = _render(settings, _predictor(settings))()
        summary = predict_video(
            render, int(given), settings.folder, batch_size=settings.batch_size, span=settings.span
        )
        log.info("%s", summary)
        return 1.0
    inputs, alone = find_inputs(given, settings.folder)
    _refuse_unused(settings, inputs)
    plan = partial(
        plan_outputs,
        inputs,
        settings.kinds,
        settings.folder,
        tiled=settings.tile is not None,
        video_kinds=settings.video_kinds,
        existing=settings.existing,
    )
    if "probability" not in settings.kinds:
        plan(
            binary=False
        )  # refuses before torch is imported; only the ending of probabilities needs the model
    predictor = _predictor(settings)
    targets = plan(binary=predictor.trained.classes.binary)
    if len(targets) < len(inputs):
        log.info("%d of %d were done earlier", len(inputs) - len(targets), len(inputs))
    return _run(settings, predictor, targets, alone)


def _run(
    settings: PredictionSettings, predictor: "Predictor", targets: Mapping[Input, OutputPaths], alone: bool
) -> float:
    # Imported after the files were found: a wrong name is reported before torch's seconds of import.
    from segmentation.inference.batches import Files

    start = time.perf_counter()
    watched = sys.stderr.isatty()
    tiling = predictor.tiling(
        tile=settings.tile, overlap=settings.overlap, batch_size=settings.batch_size, progress=watched
    )
    videos = {file: paths for file, paths in targets.items() if file.is_video}
    rasters = {file: paths for file, paths in targets.items() if file.is_raster(tiled=tiling is not None)}
    images = {file: paths for file, paths in targets.items() if file not in videos and file not in rasters}
    with tqdm(total=len(targets), unit="file", disable=not watched or len(targets) < 2) as bar:
        files = Files(predictor, settings.alpha, settings.legend, alone, bar.update)
        files.run_videos(videos, _render(settings, predictor), settings.batch_size, settings.span)
        files.run_rasters(rasters, tiling)
        if tiling is None:
            files.run(images, settings.batch_size)
        else:
            files.run_tiles(images, tiling)
    predicted = len(targets) - len(files.failures)
    log.info("%d done in %.1f s: %s", predicted, time.perf_counter() - start, settings.folder)
    if files.failures:
        lines = "".join(f"  {failure}\n" for failure in files.failures)
        sys.stderr.write(f"{len(files.failures)} of {len(targets)} files were left out:\n{lines}")
        sys.exit(_SOME_FAILED)
    return float(predicted)


def _predictor(settings: PredictionSettings) -> "Predictor":
    return load(
        settings.checkpoint,
        device=settings.accelerator,
        precision=settings.precision,
        tta=settings.tta,
        threshold=settings.threshold,
        compile=settings.compile,
    )


def _render(settings: PredictionSettings, predictor: "Predictor") -> Callable[..., Render]:
    return partial(
        overlays,
        predictor,
        alpha=settings.alpha,
        tile=settings.tile,
        overlap=settings.overlap,
        legend=settings.legend,
    )


def _refuse_unused(settings: PredictionSettings, inputs: Sequence[Input]) -> None:
    """Raises `UserError` for options that none of the inputs needs."""
    if settings.span != Span() and not any(file.is_video for file in inputs):
        raise UserError(
            "start, end and every are for videos, and there is none in the input: leave them out."
        )
    tiled = settings.tile is not None
    if settings.legend and not any(
        "overlay" in (settings.video_kinds if file.is_video else settings.kinds)
        and not file.is_raster(tiled=tiled)
        for file in inputs
    ):
        raise UserError(
            "legend=true is for overlays of pictures and videos: give save=overlay, or leave it out."
        )
