"""Answers for TIFF files larger than memory, written by window, at the same place on the earth."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from segmentation.classes import IGNORE_COLOUR, Classes
from segmentation.inference.predictor import Predictor
from segmentation.inference.raster import Raster, import_rasterio, open_raster, unplaced, window
from segmentation.inference.targets import Targets
from segmentation.inference.tiles import Tiling
from segmentation.inference.writing import FULL, sixteen_bits, tint, unwritten, whole
from segmentation.sample import IGNORE_INDEX

_BLOCK = 256  # pixels: what geographic programs read at a time

Window = tuple[slice, slice]
Sink = Callable[[Window, np.ndarray, np.ndarray], None]
"""Takes a finished window with its labels uint8 (H, W) and its probabilities (K, H, W)."""


def predict_raster(
    source: Path, targets: Targets, tiling: Tiling, predictor: Predictor, *, alpha: float
) -> None:
    """Writes the answers that `targets` names as compressed TIFF of tiles, by window.

    Place, projection and size are the source's. The mask holds class indices (for binary data 0 and 1) and a colour
    table, and 255 where the source has no data; probabilities are 16 bits, 65535 for 1, a band a class (binary: the
    foreground's).

    Raises `UserError` where rasterio is missing, for a file that it cannot read, and where the disk has no room.
    """
    trained = predictor.trained
    with open_raster(source, trained.channels) as raster, ExitStack() as files:
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
    with _create(path, raster, count=1, dtype="uint8", nodata=IGNORE_INDEX) as file:
        colours = {**dict(enumerate(classes.palette)), IGNORE_INDEX: IGNORE_COLOUR}
        file.write_colormap(1, {label: (*colour, 255) for label, colour in colours.items()})

        def sink(place: Window, labels_HW: np.ndarray, found_KHW: np.ndarray) -> None:
            labels_HW = np.where(raster.holds(*place), labels_HW, np.uint8(IGNORE_INDEX))
            file.write(labels_HW, 1, window=window(*place))

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
    # A place without a projection is a place, as a world file's; neither is told by what is not there.
    place = {"transform": source.transform} if not source.transform.is_identity else {}
    place |= {"crs": source.crs} if source.crs else {}
    with whole(path) as part:
        with unplaced():
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
    # GDAL writes when it closes the file, and says nothing of what the disk had no room for.
    with unplaced(), import_rasterio().open(part.absolute(), driver="GTiff") as file:
        for _, block in file.block_windows(1):
            file.read(window=block)
