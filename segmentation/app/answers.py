"""What the page shows and hands out: pictures of a prediction, shares of its classes, its objects, files of it."""

import html
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePath
from typing import Any, Literal, get_args

import cv2
import numpy as np

from segmentation.config import AppSettings, ObjectOptions, PolygonOptions
from segmentation.data.image_io import read_size
from segmentation.errors import UserError
from segmentation.inference import Prediction, Predictor, load
from segmentation.inference.annotations import Picture, find_regions, save_geojson, save_labelme
from segmentation.inference.outputs import object_rows, save_mask, save_objects, save_overlay, tint
from segmentation.inference.polygons import require_packages
from segmentation.types import hexadecimal
from segmentation.visualization import as_rgb, colourise, heated

SIDE = 1280
"""The longer side of pictures on the page in pixels; files have all."""

View = Literal["overlay", "mask", "probability", "picture"]
VIEWS: tuple[View, ...] = get_args(View)

FILES = {
    "Mask": "{}_mask.png",
    "Overlay": "{}_overlay.png",
    "Objects": "{}_objects.csv",
    "GeoJSON": "{}.geojson",
    "labelme": "{}.json",
}
"""What can be downloaded, and the names of the files after that of the picture."""

_LISTED = 500  # objects


@dataclass(frozen=True)
class Model:
    """A checkpoint by a short name."""

    name: str
    predictor: Predictor


@dataclass(frozen=True, eq=False)
class Answer:
    """What a model says of a picture: `name` is the picture's, `seconds` what the prediction took."""

    name: str
    prediction: Prediction
    seconds: float

    def at(self, threshold: float | None) -> Prediction:
        """The prediction, of a binary model with another threshold; None is its own."""
        if threshold is None or not self.prediction.classes.binary:
            return self.prediction
        mask_HW = (self.prediction.probabilities[:, :, 0] >= threshold).astype(np.uint8)
        return replace(self.prediction, mask=mask_HW)


def load_models(settings: AppSettings) -> list[Model]:
    """The checkpoints, each of which has answered once: a first answer takes longer."""
    models = []
    for path, name in zip(settings.checkpoints, short_names(settings.checkpoints), strict=True):
        predictor = load(
            path,
            device=settings.accelerator,
            precision=settings.precision,
            tta=settings.tta,
            threshold=settings.threshold,
        )
        # A tile or an overlap that does not fit is refused here.
        predictor.tiling(tile=settings.tile, overlap=settings.overlap, batch_size=1)
        predictor.predict(np.zeros((*predictor.trained.size, predictor.trained.channels), np.uint8))
        models.append(Model(name, predictor))
    return models


def short_names(paths: Sequence[Path]) -> list[str]:
    """The ends of the paths that tell them apart, without what they share: NAME/DATE_TIME, not best.ckpt."""
    parts = [path.resolve().parts for path in paths]
    if len(parts) == 1:
        return [PurePath(*parts[0][-1:]).stem]
    while min(map(len, parts)) > 1 and len({part[-1] for part in parts}) == 1:
        parts = [part[:-1] for part in parts]
    while min(map(len, parts)) > 1 and len({part[0] for part in parts}) == 1:
        parts = [part[1:] for part in parts]
    depth = next(
        depth for depth in itertools.count(2) if len({part[-depth:] for part in parts}) == len(parts)
    )
    return [str(PurePath(*part[-depth:])) for part in parts]


def answer(model: Model, path: Path, settings: AppSettings) -> Answer:
    """Predict a picture. Raises `UserError` for one that is too large or cannot be read."""
    height, width = read_size(path)
    if height * width > settings.max_pixels * 1e6:
        raise UserError(
            f"{path.name} has {width} x {height} pixels, more than max_pixels={settings.max_pixels} millions: "
            "crop it, or take predict.py with tile=."
        )
    begin = time.perf_counter()
    try:
        found = model.predictor.predict(path, tile=settings.tile, overlap=settings.overlap)
    except UserError as error:
        raise UserError(str(error).replace(str(path), path.name)) from error
    seconds = time.perf_counter() - begin
    # Those of tiles would be computed again for each movement of a slider.
    return Answer(path.name, replace(found, compute=partial(np.asarray, found.probabilities)), seconds)


def view(prediction: Prediction, kind: View, alpha: float, name: str) -> np.ndarray:
    """A picture for the page, uint8 (H, W, 3): the overlay, the mask, the probability of the class `name`, or itself.

    A class that the model does not know is nowhere.
    """
    classes, image_HWC = prediction.classes, _small(prediction.image)
    mask_HW = _small(prediction.mask, cv2.INTER_NEAREST_EXACT)
    if kind == "mask":
        return colourise(mask_HW, classes)
    if kind == "probability":
        share_HW = np.zeros(mask_HW.shape, np.float32)
        if name in classes.names:
            label = classes.names.index(name)
            found_HW = prediction.probabilities[:, :, 0 if classes.binary else label]
            share_HW = _small(1 - found_HW if classes.binary and label == 0 else found_HW)
        return heated(image_HWC, share_HW)
    return tint(image_HWC, mask_HW, classes, alpha) if kind == "overlay" else as_rgb(image_HWC)


def legend(prediction: Prediction) -> str:
    """HTML: the classes that occur, with their colours and shares of the picture, the largest first."""
    classes, mask_HW = prediction.classes, prediction.mask
    counts = np.bincount(mask_HW.ravel(), minlength=len(classes))[: len(classes)]
    entries = [
        f'<span><i style="background:{hexadecimal(classes.palette[label])}"></i>'
        f"{html.escape(classes.names[label])} <b>{counts[label] / mask_HW.size:.1%}</b></span>"
        for label in np.argsort(-counts, kind="stable")
        if counts[label]
    ]
    return f'<div class="legend">{"".join(entries)}</div>'


def objects(prediction: Prediction) -> tuple[list[str], list[list[Any]]]:
    """The columns and rows of the table of objects, the largest first, and of many only those."""
    header, *rows = object_rows(
        prediction.mask, prediction.probabilities, prediction.classes, ObjectOptions()
    )
    return header, sorted(rows, key=lambda row: -row[1])[:_LISTED]


def write_file(prediction: Prediction, kind: str, folder: Path, name: str, alpha: float) -> Path:
    """One of `FILES` of the picture called `name`. Raises `UserError` where a package for polygons is missing."""
    path = folder / FILES[kind].format(PurePath(name).stem)
    classes = prediction.classes
    if kind == "Mask":
        save_mask(path, prediction.mask, classes)
    elif kind == "Overlay":
        save_overlay(path, prediction.image, prediction.mask, classes, alpha, legend=False)
    elif kind == "Objects":
        save_objects(path, prediction.mask, prediction.probabilities, classes, ObjectOptions())
    else:
        require_packages("rasterio", "shapely")
        regions = find_regions(prediction.mask, classes, PolygonOptions())
        height, width = prediction.mask.shape
        picture = Picture(name, (height, width), regions)
        if kind == "GeoJSON":
            save_geojson(path, picture, classes)
        else:
            save_labelme(path, folder / name, picture, classes)
    return path


def _small(values: np.ndarray, how: int = cv2.INTER_AREA) -> np.ndarray:
    height, width = values.shape[:2]
    scale = SIDE / max(height, width)
    if scale >= 1:
        return values
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    shrunk = cv2.resize(values, size, interpolation=how)
    return shrunk.reshape(*shrunk.shape[:2], *values.shape[2:])
