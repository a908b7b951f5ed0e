"""Predictions as data to train on: masks in which pixels below a confidence are ignored, beside their images."""

import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import yaml
from PIL import Image
from tqdm import tqdm

from segmentation.errors import UserError
from segmentation.inference.inputs import Input, as_pixels
from segmentation.inference.outputs import FOREGROUND, sixteen_bits, unwritten, written_whole
from segmentation.inference.prefetch import Pipeline
from segmentation.types import IGNORE_INDEX, Classes

if TYPE_CHECKING:
    from segmentation.inference.outputs import Prediction
    from segmentation.inference.predictor import Predictor

log = logging.getLogger(__name__)

IGNORED_BINARY = 127
"""The value of ignored pixels in masks of binary data, whose others are 0 and 255."""

_MOST = 0.9  # the confidence that is always enough
_KEPT = 0.5  # the share of each class's pixels that is kept at least
_LEVELS = 2**16


def write_pseudo_labels(
    predictor: "Predictor",
    sources: Sequence[Input],
    folder: Path,
    confidence: float | str,
    predict: Callable[[np.ndarray], "Prediction"],
    failed: Callable[[UserError], object],
) -> int:
    """Writes images/ and masks/, and for several classes classes.yaml; returns how many pictures there are.

    A pixel keeps its label if its probability is at least `confidence` (0..1), else it is ignored. With "auto" each
    class has a bound of its own: the median of its pixels' probabilities, as in class-balanced self-training (Zou et
    al. 2018, eq. 5), so that rare classes, of which models are less sure, keep pixels too, but at most 0.9 (Li et al.
    2019, "Bidirectional learning"), so that the certain half of a sure class is not thrown away. Labels and
    probabilities wait on the disk until all pictures were seen. `failed` gets the error of a picture that cannot be
    read. Raises `UserError` where no pixel is kept, and where the system refuses to write.
    """
    classes = predictor.trained.classes
    names = _names(sources)
    counts_KN = np.zeros((len(classes), _LEVELS), np.int64)
    done: list[Input] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".", suffix=".part", dir=folder) as waiting:

            def read() -> Iterator[tuple[Input, np.ndarray]]:
                for source in sources:
                    try:
                        yield (
                            source,
                            as_pixels(source.path, predictor.trained.channels, predictor.trained.pixel_range),
                        )
                    except UserError as error:
                        failed(error)

            def work(item: tuple[Input, np.ndarray]) -> tuple[Input, np.ndarray, np.ndarray]:
                prediction = predict(item[1])
                return item[0], prediction.mask, sixteen_bits(_confidence(prediction))

            def write(result: tuple[Input, np.ndarray, np.ndarray]) -> None:
                source, labels_HW, confidence_HW = result
                for label in np.unique(labels_HW).tolist():
                    counts_KN[label] += np.bincount(confidence_HW[labels_HW == label], minlength=_LEVELS)
                np.savez(Path(waiting) / names[source], labels=labels_HW, confidence=confidence_HW)
                done.append(source)

            Pipeline(read=read(), work=work, write=write).run()
            bounds_K = _bounds(counts_KN, confidence)
            _tell_kept(classes, counts_KN, bounds_K, confidence)
            for source in tqdm(done, unit="mask", leave=False, disable=not sys.stderr.isatty()):
                with np.load(Path(waiting) / f"{names[source]}.npz") as found:
                    labels_HW, confidence_HW = found["labels"], found["confidence"]
                sure_HW = confidence_HW >= bounds_K[labels_HW]
                _save(folder / "masks" / f"{names[source]}.png", labels_HW, sure_HW, classes)
                _link(source.path, folder / "images" / f"{names[source]}{source.path.suffix.lower()}")
    except OSError as error:
        raise unwritten(folder, error.strerror or str(error)) from error
    if not classes.binary:
        content = {name: list(colour) for name, colour in zip(classes.names, classes.palette, strict=True)}
        with written_whole(folder / "classes.yaml") as part:
            part.write_text(
                yaml.safe_dump({"names": content}, sort_keys=False, allow_unicode=True), encoding="utf-8"
            )
    return len(done)


def training_command(folder: Path, classes: Classes) -> str:
    """How to train on the folder."""
    binary = f"dataset=binary dataset.ignore={IGNORED_BINARY} dataset.threshold={IGNORED_BINARY}"
    return f"python train.py {binary if classes.binary else 'dataset=folder'} dataset.root={folder}"


def _names(sources: Sequence[Input]) -> dict[Input, str]:
    """A stem for each: its folders and its name, joined. Raises `UserError` for two that have the same."""
    names: dict[str, Input] = {}
    for source in sources:
        name = "_".join(source.name.with_suffix("").parts)
        if (other := names.setdefault(name.casefold(), source)) is not source:
            raise UserError(
                f"{other.path} and {source.path} would share the name {name}: rename one of them."
            )
    return {source: "_".join(source.name.with_suffix("").parts) for source in sources}


def _confidence(prediction: "Prediction") -> np.ndarray:
    """float32 (H, W): the probability of each pixel's label."""
    probabilities_HWK, labels_HW = prediction.probabilities, prediction.mask
    if prediction.classes.binary:
        foreground_HW = probabilities_HWK[:, :, 0]
        return np.where(labels_HW == 1, foreground_HW, 1 - foreground_HW)
    return np.take_along_axis(probabilities_HWK, labels_HW[:, :, None].astype(np.intp), axis=2)[:, :, 0]


def _bounds(counts_KN: np.ndarray, confidence: float | str) -> np.ndarray:
    """The least confidence of each class in units of 1 / 65535."""
    if isinstance(confidence, float):
        return np.full(len(counts_KN), sixteen_bits(np.array(confidence)))
    # The highest level that at least the share of the pixels reaches.
    reached_KN = counts_KN[:, ::-1].cumsum(axis=1)[:, ::-1]
    medians_K = (reached_KN >= _KEPT * reached_KN[:, :1]).sum(axis=1) - 1
    return np.minimum(medians_K, sixteen_bits(np.array(_MOST)))


def _tell_kept(
    classes: Classes, counts_KN: np.ndarray, bounds_K: np.ndarray, confidence: float | str
) -> None:
    kept_K = (counts_KN * (np.arange(_LEVELS) >= bounds_K[:, None])).sum(axis=1)
    all_K = counts_KN.sum(axis=1)
    if all_K.any() and not kept_K.any():
        raise UserError(f"No pixel reaches pseudo_labels={confidence}: give less, or auto.")
    found = np.flatnonzero(all_K)
    shares = ", ".join(f"{classes.names[label]} {kept_K[label] / all_K[label]:.0%}" for label in found)
    log.info("labels kept of the pixels of each class: %s", shares)


def _save(path: Path, labels_HW: np.ndarray, sure_HW: np.ndarray, classes: Classes) -> None:
    values_HW = labels_HW * np.uint8(FOREGROUND if classes.binary else 1)
    ignored = np.uint8(IGNORED_BINARY if classes.binary else IGNORE_INDEX)
    with written_whole(path) as part:
        Image.fromarray(np.where(sure_HW, values_HW, ignored)).save(part, "PNG")


def _link(source: Path, target: Path) -> None:
    """The image without a second copy, where the file system can do that."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)
