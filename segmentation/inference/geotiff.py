"""Prediction on TIFF files, by window or whole, into TIFF files with the coordinates of the input."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segmentation.data.raster import (
    Raster,
    import_rasterio,
    open_raster,
    window,
    without_georeference_warning,
)
from segmentation.inference.outputs import (
    FULL,
    OutputPaths,
    mask_values,
    sixteen_bits,
    tint,
    unwritten,
    written_whole,
)
from segmentation.tiling import Tiling, Whole
from segmentation.types import IGNORE_COLOUR, IGNORE_INDEX, Classes

if TYPE_CHECKING:
    from segmentation.inference.predictor import Predictor

_NO_DATA_BINARY = 127  # 0 and 255 are background and foreground
_BLOCK = 256  # pixels: the block size that GIS programs read

Window = tuple[slice, slice]
Sink = Callable[[Window, np.ndarray, np.ndarray], None]
"""Takes a finished window with its labels uint8 (H, W) and its probabilities (K, H, W)."""


def predict_raster(
    source: Path, targets: OutputPaths, tiling: Tiling | Whole, predictor: "Predictor", *, alpha: float
) -> None:
    """Write the predictions that `targets` names as compressed, tiled TIFF files, by window.

    Transform, coordinate system and size are those of the input. The mask holds the values of a mask in PNG: class
    indices with a colour table, 255 where the input has no data; for binary data 0 and 255, and 127 where the input
    has no data. Probabilities are 16 bits, 65535 for 1, one band per class (binary: the foreground's).

    Raises `UserError` where rasterio is missing, for a file that it cannot read, and where the disk has no room.
    """
    trained = predictor.trained
    earth = trained.dataset.get("name") == "geotiff"
    with (
        open_raster(source, trained.channels, trained.pixel_range, trained.bands, blank=earth) as raster,
        ExitStack() as files,
    ):
        sinks = [
            files.enter_context(_SINKS[kind](path, raster, trained.classes, alpha))
            for kind, path in targets.items()
        ]

        def write(top: int, left: int, found_KHW: np.ndarray) -> None:
            labels_HW = predictor.label(found_KHW)
            height, width = labels_HW.shape
            place = slice(top, top + height), slice(left, left + width)
            for sink in sinks:
                sink(place, labels_HW, found_KHW)

        tiling.run(raster.read, write, size=raster.size, folder=next(iter(targets.values())).parent)


@contextmanager
def _mask(path: Path, raster: Raster, classes: Classes, alpha: float) -> Iterator[Sink]:
    nodata = _NO_DATA_BINARY if classes.binary else IGNORE_INDEX
    with _create(path, raster, count=1, dtype="uint8", nodata=nodata) as file:
        if not classes.binary:
            colours = {**dict(enumerate(classes.palette)), IGNORE_INDEX: IGNORE_COLOUR}
            file.write_colormap(1, {label: (*colour, 255) for label, colour in colours.items()})

        def sink(place: Window, labels_HW: np.ndarray, found_KHW: np.ndarray) -> None:
            values_HW = np.where(raster.holds(*place), mask_values(labels_HW, classes), np.uint8(nodata))
            file.write(values_HW, 1, window=window(*place))

        yield sink


@contextmanager
def _overlay(path: Path, raster: Raster, classes: Classes, alpha: float) -> Iterator[Sink]:
    with _create(path, raster, count=3, dtype="uint8", photometric="RGB", predictor=2) as file:

        def sink(place: Window, labels_HW: np.ndarray, found_KHW: np.ndarray) -> None:
            tinted_HWC = tint(raster.read(*place), labels_HW, classes, alpha)
            file.write(tinted_HWC.transpose(2, 0, 1), window=window(*place))

        yield sink


@contextmanager
def _probability(path: Path, raster: Raster, classes: Classes, alpha: float) -> Iterator[Sink]:
    with _create(path, raster, count=classes.outputs, dtype="uint16") as file:
        file.descriptions = classes.names[-classes.outputs :]
        file.scales = (1 / FULL,) * classes.outputs

        def sink(place: Window, labels_HW: np.ndarray, found_KHW: np.ndarray) -> None:
            file.write(sixteen_bits(found_KHW), window=window(*place))

        yield sink


_SINKS = {"mask": _mask, "overlay": _overlay, "probability": _probability}


@contextmanager
def _create(path: Path, raster: Raster, **profile: Any) -> Iterator[Any]:
    rasterio = import_rasterio()
    height, width = raster.size
    source = raster.file
    # A transform without a coordinate system is kept, as from a world file.
    place = {"transform": source.transform} if not source.transform.is_identity else {}
    place |= {"crs": source.crs} if source.crs else {}
    with written_whole(path) as part:
        with without_georeference_warning():
            file = rasterio.open(
                part,
                "w",
                driver="GTiff",
                height=height,
                width=width,
                tiled=True,
                blockxsize=_BLOCK,
                blockysize=_BLOCK,
                compress="deflate",
                bigtiff="if_safer",
                **place,
                **profile,
            )
        try:
            with file:
                yield file
            _check(part)
        except rasterio.errors.RasterioError as error:
            raise unwritten(path, "the disk may be full") from error


def _check(part: Path) -> None:
    # GDAL writes when it closes the file and does not report a full disk.
    with without_georeference_warning(), import_rasterio().open(part.absolute(), driver="GTiff") as file:
        for _, block in file.block_windows(1):
            file.read(window=block)
