"""Prediction on TIFF files, by window or whole, into TIFF files with the coordinates of the input."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from segmentation.config import PolygonOptions
from segmentation.data.opening import check_size
from segmentation.data.raster import (
    Raster,
    import_rasterio,
    open_raster,
    rasterio_errors,
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
from segmentation.inference.polygons import Place, write_polygons
from segmentation.tiling import Tiling, Whole, block
from segmentation.types import IGNORE_COLOUR, IGNORE_INDEX, Classes

if TYPE_CHECKING:
    from segmentation.inference.predictor import Predictor

_NO_DATA_BINARY = 127  # 0 and 255 are background and foreground
_AS_TRACED = PolygonOptions()
_BLOCK = 256  # pixels: the block size that GIS programs read; overviews halve the size down to it

Window = tuple[slice, slice]


class Answer(NamedTuple):
    """A finished window: labels uint8 (H, W), probabilities (K, H, W), disagreement (H, W) where it is asked for."""

    place: Window
    labels: np.ndarray
    probabilities: np.ndarray
    disagreement: np.ndarray | None


Sink = Callable[[Answer], None]


def predict_raster(
    source: Path,
    targets: OutputPaths,
    tiling: Tiling | Whole,
    predictor: "Predictor",
    *,
    alpha: float,
    polygons: PolygonOptions = _AS_TRACED,
) -> None:
    """Write the predictions that `targets` names as compressed, tiled TIFF files, by window, and polygons of the mask.

    Transform, coordinate system and size are those of the input. The mask holds the values of a mask in PNG: class
    indices with a colour table, 255 where the input has no data; for binary data 0 and 255, and 127 where the input
    has no data. Probabilities and disagreement are 16 bits, 65535 for 1, one band per class (binary: the foreground's)
    or a single one.

    Polygons are those of `write_polygons`, of the written mask as a whole: tiles leave no seams.

    Raises `UserError` where rasterio is missing, for a file that it cannot read, for polygons of one without a
    coordinate system, and where the disk has no room.
    """
    trained = predictor.trained
    rasters: dict[str, Path] = {kind: path for kind, path in targets.items() if kind != "polygons"}
    earth = trained.dataset.get("name") == "geotiff"
    with open_raster(source, trained.channels, trained.pixel_range, trained.bands, blank=earth) as raster:
        if isinstance(tiling, Whole):
            check_size(source, *reversed(raster.size))
        if "polygons" not in targets:
            _predict(raster, rasters, tiling, predictor, alpha)
            return
        path, place = targets["polygons"], Place.of(raster.file, source)
        with _scratch(path) as scratch:
            own: dict[str, Path] = {kind: scratch / f"{kind}.tif" for kind in ("mask", "confidence")}
            rasters = own | rasters
            _predict(raster, rasters, tiling, predictor, alpha)
            write_polygons(
                path,
                rasters["mask"],
                rasters["confidence"],
                place,
                trained.classes,
                polygons,
                scratch=scratch,
            )


def _predict(
    raster: Raster, targets: Mapping[str, Path], tiling: Tiling | Whole, predictor: "Predictor", alpha: float
) -> None:
    with ExitStack() as files:
        sinks = [
            files.enter_context(_SINKS[kind](path, raster, predictor.trained.classes, alpha))
            for kind, path in targets.items()
        ]

        def write(top: int, left: int, found_KHW: np.ndarray) -> None:
            answer = Answer(
                block(top, left, found_KHW),
                predictor.label(found_KHW),
                found_KHW[: predictor.trained.classes.outputs],
                predictor.disagreement(found_KHW) if "disagreement" in targets else None,
            )
            for sink in sinks:
                sink(answer)

        tiling.run(raster.read, write, size=raster.size, folder=next(iter(targets.values())).parent)


@contextmanager
def _mask(path: Path, raster: Raster, classes: Classes, alpha: float) -> Iterator[Sink]:
    nodata = _NO_DATA_BINARY if classes.binary else IGNORE_INDEX
    with _create(path, raster, overviews="mode", count=1, dtype="uint8", nodata=nodata) as file:
        if not classes.binary:
            colours = {**dict(enumerate(classes.palette)), IGNORE_INDEX: IGNORE_COLOUR}
            file.write_colormap(1, {label: (*colour, 255) for label, colour in colours.items()})

        def sink(answer: Answer) -> None:
            values_HW = mask_values(answer.labels, classes)
            values_HW = np.where(raster.holds(*answer.place), values_HW, np.uint8(nodata))
            file.write(values_HW, 1, window=window(*answer.place))

        yield sink


@contextmanager
def _overlay(path: Path, raster: Raster, classes: Classes, alpha: float) -> Iterator[Sink]:
    with _create(
        path, raster, overviews="average", count=3, dtype="uint8", photometric="RGB", predictor=2
    ) as file:

        def sink(answer: Answer) -> None:
            tinted_HWC = tint(raster.read(*answer.place), answer.labels, classes, alpha)
            file.write(tinted_HWC.transpose(2, 0, 1), window=window(*answer.place))

        yield sink


@contextmanager
def _probability(path: Path, raster: Raster, classes: Classes, alpha: float) -> Iterator[Sink]:
    with _shares(path, raster, classes.names[-classes.outputs :]) as write:
        yield lambda answer: write(answer.place, answer.probabilities)


@contextmanager
def _disagreement(path: Path, raster: Raster, classes: Classes, alpha: float) -> Iterator[Sink]:
    with _shares(path, raster, ("disagreement",)) as write:

        def sink(answer: Answer) -> None:
            assert answer.disagreement is not None
            write(answer.place, answer.disagreement[None])

        yield sink


@contextmanager
def _shares(
    path: Path, raster: Raster, names: Sequence[str]
) -> Iterator[Callable[[Window, np.ndarray], None]]:
    """A file of values in 0..1, a band a name: takes a window with its values (bands, H, W)."""
    # Every value has a meaning: what has no data is told by a mask of its own.
    partial = any(flags[0].name != "all_valid" for flags in raster.file.mask_flag_enums)
    with (
        import_rasterio().Env(GDAL_TIFF_INTERNAL_MASK=True),
        _create(path, raster, overviews="average", count=len(names), dtype="uint16") as file,
    ):
        file.descriptions = names
        file.scales = (1 / FULL,) * len(names)

        def write(place: Window, values: np.ndarray) -> None:
            file.write(sixteen_bits(values), window=window(*place))
            if partial:
                file.write_mask(raster.holds(*place), window=window(*place))

        yield write


@contextmanager
def _confidence(path: Path, raster: Raster, classes: Classes, alpha: float) -> Iterator[Sink]:
    """The probability of the predicted class."""
    with _create(path, raster, count=1, dtype="uint16") as file:

        def sink(answer: Answer) -> None:
            confidence_HW = answer.probabilities.max(axis=0)
            file.write(sixteen_bits(confidence_HW), 1, window=window(*answer.place))

        yield sink


_SINKS = {
    "mask": _mask,
    "overlay": _overlay,
    "probability": _probability,
    "disagreement": _disagreement,
    "confidence": _confidence,
}


@contextmanager
def _scratch(path: Path) -> Iterator[Path]:
    """A temporary folder beside the file: on the same disk, and not in a small /tmp."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = TemporaryDirectory(prefix=".", suffix=".part", dir=path.parent)
    except OSError as error:
        raise unwritten(path, error.strerror or str(error)) from error
    with folder as name:
        yield Path(name)


@contextmanager
def _create(path: Path, raster: Raster, *, overviews: str | None = None, **profile: Any) -> Iterator[Any]:
    """A new file of the raster's size and place; `overviews` names how rasterio makes the smaller versions in it."""
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
            if overviews is not None:
                _add_overviews(part, rasterio.enums.Resampling[overviews])
            _check(part)
        except rasterio_errors() as error:
            raise unwritten(path, "the disk may be full") from error


def _open(part: Path, mode: str = "r", **how: Any) -> Any:
    with without_georeference_warning():
        return import_rasterio().open(part.absolute(), mode, driver="GTiff", **how)


def _add_overviews(part: Path, resampling: Any) -> None:
    """Smaller versions, from which maps are drawn: without them, a program reads a whole scene to show it."""
    with _open(part, "r+") as file:
        levels = [2**level for level in range(1, 32) if max(file.shape) > _BLOCK * 2 ** (level - 1)]
        if levels:
            file.build_overviews(levels, resampling)


def _check(part: Path) -> None:
    # GDAL writes when it closes the file and does not report a full disk.
    with _open(part) as file:
        smaller = len(file.overviews(1))
    for level in (None, *range(smaller)):
        with _open(part, overview_level=level) as file:
            for _, block in file.block_windows(1):
                file.read(window=block)
