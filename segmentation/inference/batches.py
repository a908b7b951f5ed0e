"""Many files through one predictor: one that cannot be used is recorded and left out."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from segmentation.config import OutputKind, Span
from segmentation.errors import UserError
from segmentation.inference import outputs
from segmentation.inference.geotiff import predict_raster
from segmentation.inference.inputs import Input, as_pixels
from segmentation.inference.outputs import OutputPaths, Prediction
from segmentation.inference.predictor import Predictor
from segmentation.inference.prefetch import Pipeline, terminable
from segmentation.inference.tiling import Tiling, Whole
from segmentation.inference.video import Render, predict_video

log = logging.getLogger(__name__)

# Probabilities (4 bytes each) that one group of images may have: a large image is a group of its own.
_AT_ONCE = 2**26

Group = list[tuple[Input, np.ndarray]]
Save = Callable[[], None]
Planned = Mapping[Input, OutputPaths]


def _empty(folder: Path) -> None:
    """Removes the numbered files of an earlier video, which may have had more frames."""
    for path in folder.glob("[0-9]" * 6 + ".*"):
        path.unlink()


@dataclass
class Files:
    """Predict files and save the results at their targets.

    A file that cannot be used is left out and its message kept in `failures`; where there is but one file
    (`alone`) it is raised. `done` is called with the number of files that are finished.
    """

    predictor: Predictor
    alpha: float
    legend: bool
    alone: bool
    done: Callable[[int], object]
    failures: list[str] = field(default_factory=list)

    def run(self, targets: Planned, batch_size: int) -> None:
        """Predict whole images, consecutive ones of equal size in one batch; reading, computing and writing overlap."""
        with terminable():
            Pipeline(
                read=self._groups(targets, batch_size),
                work=lambda group: self._answer(targets, group),
                write=_save,
            ).run()

    def run_tiles(self, targets: Planned, tiling: Tiling) -> None:
        """Predict images one by one by tiles, from memory."""
        for source, paths in targets.items():
            with terminable(), self._failing():
                pixels_HWC = self._pixels(source)
                _save(self._saves(paths, self.predictor.predict_tiles(pixels_HWC, tiling)))
            self.done(1)

    def run_rasters(self, targets: Planned, tiling: Tiling | None) -> None:
        """Predict TIFFs one by one into GeoTIFFs: by window, or whole without `tiling`."""
        for source, paths in targets.items():
            with terminable(), self._failing():
                way = tiling or Whole(self.predictor.window_probabilities)
                predict_raster(source.path, paths, way, self.predictor, alpha=self.alpha)
            self.done(1)

    def run_videos(
        self, targets: Planned, render: Callable[..., Render], batch_size: int, span: Span
    ) -> None:
        """Predict videos one by one; `render(stills=...)` is as `overlays`."""
        for source, paths in targets.items():
            with self._failing():
                stills = {kind: path for kind, path in paths.items() if kind != "overlay"}
                for folder in stills.values():
                    _empty(folder)
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
                pixels_HWC = self._pixels(source)
            if pixels_HWC is not None:
                yield source, pixels_HWC

    def _pixels(self, source: Input) -> np.ndarray:
        trained = self.predictor.trained
        return as_pixels(source.path, trained.channels, trained.pixel_range)

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
            saves += self._saves(targets[source], prediction)
        self.done(len(group))
        return saves

    def _saves(self, paths: OutputPaths, prediction: Prediction) -> list[Save]:
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
        }
        return [saves[kind](path) for kind, path in paths.items()]

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
