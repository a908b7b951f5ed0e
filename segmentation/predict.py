"""Predict with a checkpoint: files, videos and cameras in, a folder of predictions out. `predict.py` calls this."""

import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from segmentation.config import (
    ANNOTATIONS,
    ObjectOptions,
    OutputKind,
    PolygonOptions,
    PredictionSettings,
    Span,
    read_prediction_settings,
)
from segmentation.errors import UserError
from segmentation.inference import load, outputs
from segmentation.inference.annotations import Album, Picture, find_regions, save_geojson, save_labelme
from segmentation.inference.geotiff import predict_raster
from segmentation.inference.inputs import Input, find_inputs, pixels_for
from segmentation.inference.outputs import OutputPaths, plan_annotations, plan_outputs
from segmentation.inference.polygons import require_packages
from segmentation.inference.prefetch import Pipeline, terminable
from segmentation.inference.pseudo_labels import training_command, write_pseudo_labels
from segmentation.inference.video import Render, overlays, predict_video
from segmentation.library_warnings import library_warnings_hidden
from segmentation.tiling import Tiling, Whole

# Without torch: a wrong file name is reported before its seconds of import.
if TYPE_CHECKING:
    from segmentation.inference import Prediction, Predictor

log = logging.getLogger(__name__)

_SOME_FAILED = 1
_AT_ONCE = 2**26  # probabilities (4 bytes each) of one group of images: a large image is a group of its own

Group = list[tuple[Input, np.ndarray]]
Save = Callable[[], None]
Planned = Mapping[Input, OutputPaths]


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
        if settings.existing != "refuse":
            raise UserError(f"The video of camera {given} never replaces another: leave existing out.")
        own = PurePath(f"camera{given}.mp4")
        _refuse_unused(settings, [Input(Path(own), own)])
        render = _render(settings, _predictor(settings))()
        summary = predict_video(
            render, int(given), settings.folder, batch_size=settings.batch_size, span=settings.span
        )
        log.info("%s", summary)
        return 1.0
    inputs, alone = find_inputs(given, settings.folder)
    _refuse_unused(settings, inputs)
    if settings.pseudo_labels is not None:
        return _pseudo_labels(settings, inputs, alone)
    shared = plan_annotations(settings.kinds, settings.folder, settings.existing)
    plan = partial(
        plan_outputs,
        inputs,
        settings.own_kinds,
        settings.folder,
        tiled=settings.tile is not None,
        video_kinds=settings.video_kinds,
        polygons_format=settings.polygons_format,
        existing=settings.existing,
        shared=shared,
    )
    if "probability" not in settings.kinds:
        # Refuses before torch is imported; only the ending of probabilities needs the model.
        plan(binary=False)
    predictor = _predictor(settings)
    targets = plan(binary=predictor.trained.classes.binary)
    if len(targets) < len(inputs):
        log.info("%d of %d were done earlier", len(inputs) - len(targets), len(inputs))
    return _run(settings, predictor, targets, shared, alone)


def _pseudo_labels(settings: PredictionSettings, inputs: Sequence[Input], alone: bool) -> float:
    """Predict data to train on; as `predict`, returns how many pictures there are."""
    assert settings.pseudo_labels is not None
    folder = settings.folder
    there = next((path for path in (folder / "images", folder / "masks") if path.exists()), None)
    if there is not None:
        raise UserError(f"{there} exists already, and pseudo_labels begin a data set: give another output.")
    predictor = _predictor(settings)
    if predictor.trained.bands is not None:
        raise UserError(
            f"The model takes the bands {predictor.trained.bands} of GeoTIFFs, which data of pseudo_labels cannot say:"
            " leave pseudo_labels out."
        )
    tiling = predictor.tiling(tile=settings.tile, overlap=settings.overlap, batch_size=settings.batch_size)
    failures: list[UserError] = []

    def one(pixels_HWC: np.ndarray) -> "Prediction":
        if tiling is None:
            return predictor.predict_all([pixels_HWC])[0]
        return predictor.predict_tiles(pixels_HWC, tiling)

    with terminable():
        count = write_pseudo_labels(predictor, inputs, folder, settings.pseudo_labels, one, failures.append)
    if alone and failures:
        raise failures[0]
    log.info("%d done, to train on: %s", count, training_command(folder, predictor.trained.classes))
    _end_with(failures, len(inputs))
    return float(count)


def _end_with(failures: Sequence[object], of: int) -> None:
    """Ends the process with status 1 where files were left out."""
    if failures:
        lines = "".join(f"  {failure}\n" for failure in failures)
        sys.stderr.write(f"{len(failures)} of {of} files were left out:\n{lines}")
        sys.exit(_SOME_FAILED)


def _run(
    settings: PredictionSettings, predictor: "Predictor", targets: Planned, shared: OutputPaths, alone: bool
) -> float:
    start = time.perf_counter()
    watched = sys.stderr.isatty()
    tiling = predictor.tiling(
        tile=settings.tile, overlap=settings.overlap, batch_size=settings.batch_size, progress=watched
    )
    videos = {file: paths for file, paths in targets.items() if file.is_video}
    rasters = {file: paths for file, paths in targets.items() if file.is_raster(tiled=tiling is not None)}
    images = {file: paths for file, paths in targets.items() if file not in videos and file not in rasters}
    hidden = not watched or len(targets) < 2
    with terminable(), tqdm(total=len(targets), unit="file", disable=hidden) as bar:
        files = Files(
            predictor,
            settings.alpha,
            settings.legend,
            settings.objects,
            settings.polygons,
            Album(predictor.trained.classes, shared),
            alone,
            bar.update,
        )
        files.run_videos(videos, _render(settings, predictor), settings.batch_size, settings.span)
        files.run_rasters(rasters, tiling)
        if tiling is None:
            files.run(images, settings.batch_size)
        else:
            files.run_tiles(images, tiling)
        files.album.save()
    predicted = len(targets) - len(files.failures)
    log.info("%d done in %.1f s: %s", predicted, time.perf_counter() - start, settings.folder)
    _end_with(files.failures, len(targets))
    return float(predicted)


def _predictor(settings: PredictionSettings) -> "Predictor":
    predictor = load(
        settings.checkpoints,
        ensemble=settings.ensemble,
        disagreement="disagreement" in settings.kinds,
        device=settings.accelerator,
        precision=settings.precision,
        tta=settings.tta,
        threshold=settings.threshold,
        compile=settings.compile,
    )
    if settings.ensemble == "weights":
        from segmentation.inference.ensemble import AVERAGED

        log.info("note: %s", AVERAGED.format(count=len(settings.checkpoints)))
    return predictor


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
    """Raises `UserError` for options and outputs that are not for these inputs."""
    tiled = settings.tile is not None
    video = next((file.path for file in inputs if file.is_video), None)
    if video is not None and settings.pseudo_labels is not None:
        raise UserError(f"{video} is a video, and pseudo_labels are for pictures: give other inputs.")
    of_pictures = [kind for kind in settings.kinds if kind in ("objects", *ANNOTATIONS)]
    if of_pictures:
        other = next((file.path for file in inputs if file.is_video or file.is_raster(tiled=tiled)), None)
        if other is not None:
            raise UserError(
                f"{other} is a video, a GeoTIFF or a TIFF read by tiles, and {of_pictures[0]} is saved of other "
                f"pictures alone: leave {of_pictures[0]} out of save; save=polygons is for GeoTIFFs."
            )
    if "objects" not in settings.kinds and settings.objects != ObjectOptions(min_area=settings.min_area):
        raise UserError("pixel_size and watershed are for objects: give save=objects, or leave them out.")
    if "polygons" in settings.kinds:
        require_packages("rasterio", "shapely", "pyogrio")
        unplaced = next((file.path for file in inputs if not file.is_georeferenced), None)
        if unplaced is not None:
            raise UserError(
                f"{unplaced} does not say where on Earth it lies, which polygons need: "
                f"give GeoTIFFs, or leave polygons out of save."
            )
    annotated = any(kind in ANNOTATIONS for kind in settings.kinds)
    if annotated:
        require_packages("rasterio", "shapely")
    if "polygons" not in settings.kinds:
        left = replace(settings.polygons, min_area=0.0)
        if annotated:
            left = replace(left, simplify=0.0, fill_holes=0.0)
        if left != PolygonOptions():
            options = (
                "polygons_format and regularise"
                if annotated
                else "polygons_format, simplify, fill_holes and regularise"
            )
            raise UserError(f"{options} are for polygons: give save=polygons, or leave them out.")
    if settings.min_area and not {"objects", "polygons", *ANNOTATIONS} & set(settings.kinds):
        raise UserError("min_area is for objects and polygons: add one of them to save, or leave it out.")
    if settings.span != Span() and video is None:
        raise UserError(
            "start, end and every are for videos, and there is none in the input: leave them out."
        )
    if settings.legend and not any(
        "overlay" in (settings.video_kinds if file.is_video else settings.kinds)
        and not file.is_raster(tiled=tiled)
        for file in inputs
    ):
        raise UserError(
            "legend=true is for overlays of pictures and videos: give save=overlay, or leave it out."
        )


@dataclass
class Files:
    """Predict files and save the results at their targets.

    A file that cannot be used is left out and its message kept in `failures`; where there is but one file
    (`alone`) it is raised. `done` is called with the number of files that are finished.
    """

    predictor: "Predictor"
    alpha: float
    legend: bool
    objects: ObjectOptions
    polygons: PolygonOptions
    album: Album
    alone: bool
    done: Callable[[int], object]
    failures: list[str] = field(default_factory=list)

    def run(self, targets: Planned, batch_size: int) -> None:
        """Predict whole images, consecutive ones of equal size in one batch; reading, computing and writing overlap."""
        Pipeline(
            read=self._groups(targets, batch_size),
            work=lambda group: self._answer(targets, group),
            write=_save,
        ).run()

    def run_tiles(self, targets: Planned, tiling: Tiling) -> None:
        """Predict images one by one by tiles, from memory."""
        for source, paths in targets.items():
            with self._failing():
                pixels_HWC = self._pixels(source)
                _save(self._saves(source, paths, self.predictor.predict_tiles(pixels_HWC, tiling)))
            self.done(1)

    def run_rasters(self, targets: Planned, tiling: Tiling | None) -> None:
        """Predict TIFFs one by one into GeoTIFFs: by window, or without `tiling` as the model was validated."""
        for source, paths in targets.items():
            with self._failing():
                way = (
                    tiling or self.predictor.tiling_of_training or Whole(self.predictor.window_probabilities)
                )
                predict_raster(
                    source.path, paths, way, self.predictor, alpha=self.alpha, polygons=self.polygons
                )
            self.done(1)

    def run_videos(
        self, targets: Planned, render: Callable[..., Render], batch_size: int, span: Span
    ) -> None:
        """Predict videos one by one; `render(stills=...)` is as `overlays`."""
        for source, paths in targets.items():
            with self._failing():
                stills = {kind: path for kind, path in paths.items() if kind != "overlay"}
                overlay = paths.get("overlay")
                summary = predict_video(
                    render(stills=stills),
                    source.path,
                    (overlay or next(iter(stills.values()))).parent,
                    batch_size=batch_size,
                    span=span,
                    video=overlay is not None,
                )
                log.info("%s", summary)
                if overlay is not None:
                    # It was written under a new name; now it may replace an existing file.
                    summary.path.replace(overlay)
            self.done(1)

    def _groups(self, targets: Planned, batch_size: int) -> Iterator[Group]:
        group: Group = []
        for source, pixels_HWC in self._pictures(targets):
            height, width, _ = pixels_HWC.shape
            room = _AT_ONCE // (height * width * self.predictor.trained.classes.outputs)
            if group and (group[0][1].shape != pixels_HWC.shape or len(group) >= min(batch_size, room)):
                yield group
                group = []
            group.append((source, pixels_HWC))
        if group:
            yield group

    def _pictures(self, targets: Planned) -> Iterator[tuple[Input, np.ndarray]]:
        for source in targets:
            pixels_HWC = None
            with self._failing(1):
                self.predictor.check_picture(source.path)
                pixels_HWC = self._pixels(source)
            if pixels_HWC is not None:
                yield source, pixels_HWC

    def _pixels(self, source: Input) -> np.ndarray:
        return pixels_for(self.predictor.trained, source.path)

    def _answer(self, targets: Planned, group: Group) -> list[Save]:
        saves: list[Save] = []
        try:
            predictions = self.predictor.predict_all([pixels_HWC for _, pixels_HWC in group])
        except UserError:
            if len(group) > 1:  # too large a batch: predict each image alone
                return [save for one in group for save in self._answer(targets, [one])]
            with self._failing(1):
                raise
            return saves
        for (source, _), prediction in zip(group, predictions, strict=True):
            saves += self._saves(source, targets[source], prediction)
        self.done(len(group))
        return saves

    def _saves(self, source: Input, paths: OutputPaths, prediction: "Prediction") -> list[Save]:
        # Each keeps only what it needs: probabilities may be many times larger than the image.
        mask_HW, classes = prediction.mask, prediction.classes
        saves: dict[OutputKind, Callable[[Path], Save]] = {
            "mask": lambda path: partial(outputs.save_mask, path, mask_HW, classes),
            "overlay": lambda path: partial(
                outputs.save_overlay, path, prediction.image, mask_HW, classes, self.alpha, self.legend
            ),
            "probability": lambda path: partial(
                outputs.save_probabilities, path, prediction.probabilities, classes
            ),
            "disagreement": lambda path: partial(outputs.save_disagreement, path, prediction.disagreement),
            "objects": lambda path: partial(
                outputs.save_objects, path, mask_HW, prediction.probabilities, classes, self.objects
            ),
        }
        asked = [saves[kind](path) for kind, path in paths.items() if kind in saves]
        annotated = {kind: path for kind, path in paths.items() if kind in ANNOTATIONS}
        if annotated or self.album.paths:
            asked.append(partial(self._annotate, source, annotated, mask_HW))
        return asked

    def _annotate(self, source: Input, paths: OutputPaths, mask_HW: np.ndarray) -> None:
        classes = self.predictor.trained.classes
        size = mask_HW.shape[0], mask_HW.shape[1]
        picture = Picture(source.name.as_posix(), size, find_regions(mask_HW, classes, self.polygons))
        if "labelme" in paths:
            save_labelme(paths["labelme"], source.path, picture, classes)
        if "geojson" in paths:
            save_geojson(paths["geojson"], picture, classes)
        if self.album.paths:
            self.album.pictures.append(picture)

    @contextmanager
    def _failing(self, files: int = 0) -> Iterator[None]:
        try:
            yield
        except UserError as error:
            if self.alone:
                raise
            log.warning("left out: %s", error)
            self.failures.append(str(error))
            self.done(files)


def _save(saves: Sequence[Save]) -> None:
    for save in saves:
        save()
