"""Predictions as files: masks, overlays, probabilities and tables that other programs open, and where they are saved.

They get the names of their inputs and never replace a file unless asked to.
"""

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path, PurePath
from typing import Any

import cv2
import numpy as np
from PIL import Image

from segmentation.components import find_objects
from segmentation.config import ANNOTATION_FILES, Existing, ObjectOptions, OutputKind, PolygonFormat
from segmentation.errors import UserError, closest
from segmentation.inference.inputs import Input
from segmentation.types import Classes
from segmentation.visualization import as_rgb, colour_table, colourise, with_legend
from segmentation.writing import replaced

FULL = 65535
"""The 16-bit value of a probability of 1."""

FOREGROUND = 255
"""The value of the foreground in the mask file of binary data."""

SaveMask = Callable[[str, np.ndarray], None]
"""Takes an image's name and its predicted labels, uint8 (H, W)."""


def mask_values(labels_HW: np.ndarray, classes: Classes) -> np.ndarray:
    """uint8 labels -> the values of a mask file: 0 and 255 for binary data, else class indices."""
    return labels_HW * np.uint8(FOREGROUND) if classes.binary else labels_HW


def mask_picture(labels_HW: np.ndarray, classes: Classes) -> Image.Image:
    """The `mask_values` of uint8 labels as an image: binary in grey, else with a palette."""
    if classes.binary:
        return Image.fromarray(mask_values(labels_HW, classes))
    picture = Image.fromarray(labels_HW)
    picture.putpalette(colour_table(classes).tobytes())
    return picture


def tint(pixels_HWC: np.ndarray, labels_HW: np.ndarray, classes: Classes, alpha: float) -> np.ndarray:
    """uint8 (H, W, 3): the image under the class colours with opacity `alpha` (0..1).

    The background (`Classes.foreground` has all others) is left as it is.
    """
    colours = np.ascontiguousarray(as_rgb(pixels_HWC))
    tinted = cv2.addWeighted(colours, 1 - alpha, colourise(labels_HW, classes), alpha, 0)
    if 0 not in classes.foreground:
        cv2.copyTo(colours, (labels_HW == 0).astype(np.uint8), tinted)
    return np.asarray(tinted)


def sixteen_bits(probabilities: np.ndarray) -> np.ndarray:
    """0..1 -> uint16 0..65535, to the nearest."""
    return (probabilities * FULL + 0.5).clip(0, FULL).astype(np.uint16)


def save_mask(path: Path, labels_HW: np.ndarray, classes: Classes) -> None:
    """An 8-bit PNG of `mask_picture`. Raises `UserError` for another ending: JPEG would blur labels."""
    _check_ending(path, ".png")
    with written_whole(path) as part:
        mask_picture(labels_HW, classes).save(part, "PNG")


def mask_writer(folder: Path, classes: Classes) -> SaveMask:
    """A function that saves predicted labels in `folder` under the name of their image.

    It raises `UserError` for a name that exists, such as `a` and `A` on a file system that ignores case.
    """

    def save(name: str, labels_HW: np.ndarray) -> None:
        path = folder / f"{name}.png"
        if path.exists():
            raise UserError(f"{path} is there already: two images of the split share its name. Rename one.")
        save_mask(path, labels_HW, classes)

    return save


def save_overlay(
    path: Path, pixels_HWC: np.ndarray, labels_HW: np.ndarray, classes: Classes, alpha: float, legend: bool
) -> None:
    """The picture of `tint`, with a `legend` below, in the format of the ending.

    Raises `UserError` for one that Pillow does not write.
    """
    tinted_HW3 = tint(pixels_HWC, labels_HW, classes, alpha)
    save_picture(path, Image.fromarray(with_legend(tinted_HW3[None], classes)[0] if legend else tinted_HW3))


def save_picture(path: Path, picture: Image.Image) -> None:
    """In the format of the ending. Raises `UserError` for one that Pillow does not write."""
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind not in Image.SAVE:
        raise UserError(f"{path} has no ending that Pillow writes: take .png or .jpg.")
    with written_whole(path) as part:
        picture.save(part, kind)


def save_probabilities(path: Path, probabilities_HWK: np.ndarray, classes: Classes) -> None:
    """Binary: a 16-bit grey PNG, 65535 for 1. Else .npz with `probabilities` (H, W, K), so too, and `names`.

    Raises `UserError` for another ending.
    """
    values_HWK = sixteen_bits(probabilities_HWK)
    if classes.binary:
        _check_ending(path, ".png")
        with written_whole(path) as part:
            Image.fromarray(values_HWK[:, :, 0]).save(part, "PNG")
        return
    _check_ending(path, ".npz")
    with written_whole(path) as part, part.open("wb") as file:
        np.savez_compressed(file, probabilities=values_HWK, names=np.array(classes.names))


def save_disagreement(path: Path, disagreement_HW: np.ndarray | None) -> None:
    """A 16-bit grey PNG, 65535 for 1. Raises `UserError` for another ending, and for none."""
    if disagreement_HW is None:
        raise UserError("There is no disagreement: load the checkpoints with disagreement=True.")
    _check_ending(path, ".png")
    with written_whole(path) as part:
        Image.fromarray(sixteen_bits(disagreement_HW)).save(part, "PNG")


def save_objects(
    path: Path, labels_HW: np.ndarray, probabilities_HWK: np.ndarray, classes: Classes, options: ObjectOptions
) -> None:
    """A CSV of `object_rows`. Raises `UserError` for another ending."""
    _check_ending(path, ".csv")
    with written_whole(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(object_rows(labels_HW, probabilities_HWK, classes, options))


def object_rows(
    labels_HW: np.ndarray, probabilities_HWK: np.ndarray, classes: Classes, options: ObjectOptions
) -> Iterator[list[Any]]:
    """A table with a row per connected region of a class but the background, class by class, from the top.

    The first row names the columns. `pixels` is its area in pixels, `area` that in the square of the unit of
    `pixel_size`, if there is one. Boxes and centroids are in pixels from the upper left one, which is 0, 0;
    `confidence` is the mean probability of its class over its pixels.
    """
    area_of_pixel = None if options.pixel_size is None else options.pixel_size**2
    measures = ["pixels"] if area_of_pixel is None else ["pixels", "area"]
    yield ["class", *measures, "left", "top", "width", "height", "x", "y", "confidence"]
    for label in np.intersect1d(np.unique(labels_HW), classes.foreground).tolist():
        objects = find_objects(labels_HW == label, watershed=options.watershed)
        probability_HW = probabilities_HWK[:, :, 0 if classes.binary else label]
        sums = np.bincount(objects.labels.ravel(), probability_HW.ravel(), len(objects) + 1)[1:]
        for index in np.flatnonzero(objects.areas * (area_of_pixel or 1.0) >= options.min_area):
            pixels = int(objects.areas[index])
            areas = [pixels] if area_of_pixel is None else [pixels, f"{pixels * area_of_pixel:.6g}"]
            places = (*objects.boxes[index].tolist(), *(f"{at:.2f}" for at in objects.centroids[index]))
            yield [classes.names[label], *areas, *places, f"{sums[index] / pixels:.4f}"]


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """`replaced`, in a folder that is made where it is missing.

    Raises `UserError` where the system refuses to write.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path) as part:
            yield part
    except OSError as error:
        raise unwritten(path, error.strerror or str(error)) from error


def unwritten(path: Path, cause: str) -> UserError:
    """The error for a file that could not be written, with the cause."""
    return UserError(f"{path} was not written ({cause}): make room, or give another output.")


def _check_ending(path: Path, ending: str) -> None:
    if path.suffix.lower() != ending:
        raise UserError(f"{path} should end in {ending}.")


_OF_PICTURES: tuple[OutputKind, ...] = (
    "mask",
    "overlay",
    "probability",
    "disagreement",
    "objects",
)  # polygons need a place on Earth

ALPHA = 0.5
"""Default opacity of the class colours in an overlay."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """The prediction at the image's own size.

    `mask` is uint8 (H, W), class indices; `image` uint8 (H, W, C), the pixels that were predicted, upright;
    `classes` has names and colours; `disagreement` is float32 (H, W) in 0..1 where it was asked for.
    """

    mask: np.ndarray
    classes: Classes
    image: np.ndarray = field(repr=False)
    compute: Callable[[], np.ndarray] = field(repr=False)
    disagreement: np.ndarray | None = field(repr=False, default=None)

    @cached_property
    def probabilities(self) -> np.ndarray:
        """float32 (H, W, K): of each class, or for binary data (K = 1) of the foreground.

        With tiles they are computed when they are first asked for: they may be much larger than the image.
        """
        return self.compute()

    def overlay(self, alpha: float = ALPHA) -> Image.Image:
        """The image under the class colours with opacity `alpha`. Raises `UserError` unless it is within 0..1."""
        if not 0 <= alpha <= 1:
            raise UserError(f"alpha={alpha} is not possible: give a number from 0 to 1.")
        return Image.fromarray(tint(self.image, self.mask, self.classes, alpha))

    def _repr_png_(self) -> bytes:
        """The overlay with its legend, as a notebook shows it."""
        tinted_HW3 = tint(self.image, self.mask, self.classes, ALPHA)
        stream = BytesIO()
        Image.fromarray(with_legend(tinted_HW3[None], self.classes)[0]).save(stream, "PNG")
        return stream.getvalue()

    def save(self, path: str | Path, what: OutputKind = "mask") -> Path:
        """Write the file and its folders; an existing file is replaced.

        The mask is an 8-bit PNG (0 and 255 for binary, else indices with a palette), the overlay any format
        that Pillow writes, probabilities a 16-bit PNG (binary) or an .npz, disagreement a 16-bit PNG, objects a CSV.
        Raises `UserError` for other endings, and for a disagreement that the predictor was not asked for.
        """
        path = Path(path).expanduser()
        if what == "mask":
            save_mask(path, self.mask, self.classes)
        elif what == "probability":
            save_probabilities(path, self.probabilities, self.classes)
        elif what == "overlay":
            save_picture(path, self.overlay())
        elif what == "disagreement":
            save_disagreement(path, self.disagreement)
        elif what == "objects":
            save_objects(path, self.mask, self.probabilities, self.classes, ObjectOptions())
        else:
            raise UserError(f"There is no '{what}' to save.{closest(what, _OF_PICTURES)}")
        return path


OutputPaths = Mapping[OutputKind, Path]

_ENDINGS: Mapping[OutputKind, str] = {"objects": ".csv", "labelme": ".json", "geojson": ".geojson"}
_NAMED_AS_INPUT = ("mask", "labelme", "geojson")


def plan_outputs(
    sources: Sequence[Input],
    kinds: Sequence[OutputKind],
    output: Path,
    *,
    binary: bool,
    tiled: bool,
    video_kinds: Sequence[OutputKind] = ("overlay",),
    polygons_format: PolygonFormat = "gpkg",
    existing: Existing,
    shared: OutputPaths,
) -> dict[Input, OutputPaths]:
    """The output files in `output` of each input, with the same sub-folders.

    TIFFs that are read by window or have a place on Earth are answered by GeoTIFFs (`Input.is_raster`), other images
    by PNGs. A mask has the name of its image, as have `NAME.json` for labelme and `NAME.geojson`; the others are
    `NAME_overlay`, `NAME_probability`, `NAME_disagreement`, `NAME_objects.csv`, and `NAME_polygons`, which end in
    `polygons_format`. Images whose names differ only in the ending keep it (`a.jpg.png`, `a.png.png`). The overlay of
    a video is `NAME.mp4`, what else is saved of it in folders such as `NAME_mask`. For "skip" files that exist are left
    out, and so are inputs that lack none, unless they belong into a file of all, the `shared` ones of
    `plan_annotations`.
    Raises `UserError` for files that exist for "refuse", and for an input that would be overwritten.
    """
    # Some file systems ignore case: one file would replace the other.
    stems = Counter(str(source.name.with_suffix("")).casefold() for source in sources)
    planned: dict[Input, OutputPaths] = {}
    taken = {str(path).casefold() for path in shared.values()}
    for source in sources:
        alike = stems[str(source.name.with_suffix("")).casefold()] > 1
        name = source.name if alike else source.name.with_suffix("")
        targets: dict[OutputKind, Path] | None = None
        while targets is None or any(str(path).casefold() in taken for path in targets.values()):
            asked = video_kinds if source.is_video else kinds
            targets = _targets(source, name, asked, output, polygons_format, binary=binary, tiled=tiled)
            name = name.with_name(f"{name.name}_")
        taken |= {str(path).casefold() for path in targets.values()}
        planned[source] = targets
    _refuse_inputs(planned)
    if existing == "refuse":
        _refuse_existing(planned)
    if existing != "skip":
        return planned
    missing = {
        source: {kind: path for kind, path in targets.items() if not path.exists()}
        for source, targets in planned.items()
    }
    return {source: targets for source, targets in missing.items() if targets or shared}


def plan_annotations(kinds: Sequence[OutputKind], output: Path, existing: Existing) -> OutputPaths:
    """The files in `output` that hold the annotations of all pictures.

    Raises `UserError` for files that exist, unless they are overwritten.
    """
    paths = {kind: output / ANNOTATION_FILES[kind] for kind in kinds if kind in ANNOTATION_FILES}
    there = next((path for path in paths.values() if path.exists()), None)
    if there is not None and existing == "skip":
        raise UserError(
            f"{there} exists, and nothing is added to it: give another output, or existing=overwrite."
        )
    if there is not None and existing == "refuse":
        raise UserError(f"{there} exists already: give another output, or existing=overwrite.")
    return paths


def _targets(
    source: Input,
    name: PurePath,
    kinds: Sequence[OutputKind],
    output: Path,
    polygons_format: PolygonFormat,
    *,
    binary: bool,
    tiled: bool,
) -> dict[OutputKind, Path]:
    if source.is_video:
        return {kind: output / (f"{name}.mp4" if kind == "overlay" else f"{name}_{kind}") for kind in kinds}
    if source.is_raster(tiled=tiled):
        endings = {kind: f".{polygons_format}" if kind == "polygons" else ".tif" for kind in kinds}
    else:
        endings = {kind: ".npz" if kind == "probability" and not binary else ".png" for kind in kinds}
        endings |= {kind: _ENDINGS[kind] for kind in kinds if kind in _ENDINGS}
    return {
        kind: output / f"{name}{'' if kind in _NAMED_AS_INPUT else f'_{kind}'}{ending}"
        for kind, ending in endings.items()
    }


def _refuse_inputs(planned: Mapping[Input, OutputPaths]) -> None:
    inputs = {source.path.resolve(): source.path for source in planned}
    for targets in planned.values():
        for path in targets.values():
            if path.resolve() in inputs:
                raise UserError(f"{path} is an input and would be overwritten: give another output.")


def _refuse_existing(planned: Mapping[Input, OutputPaths]) -> None:
    paths = [path for targets in planned.values() for path in targets.values() if path.exists()]
    if paths:
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        raise UserError(
            f"{paths[0]}{more} exists already: give another output, or existing=skip, or existing=overwrite."
        )
