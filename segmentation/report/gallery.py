"""The images that a report shows: their selection, and small pictures of them inside the page."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from segmentation.report.colours import BINARY_ERRORS, MULTICLASS_ERRORS
from segmentation.report.evaluation import Evaluation, ImageScores
from segmentation.types import IGNORE_COLOUR, IGNORE_INDEX, Classes, Colour
from segmentation.visualization import as_rgb, colour_table

ReadImage = Callable[[int], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""Reads image uint8 (H, W, C), truth and prediction uint8 (H, W) at an index of the split."""

SIDE = 320
"""Longest side of a picture on the page, in pixels."""
BUDGET = 4_000_000
"""Largest size of all pictures together, in bytes."""
DIFFERENT = 8
"""Number of images on the page that compares several checkpoints."""
WORST, BEST, BY_CLASS = 12, 6, 2
"""Number of images shown: the worst and the best of all, and the worst of each class."""

_OPAQUE, _FAINT = 215, 120
"""Opacity of errors and of ignored pixels in the error picture, of 255."""


@dataclass(frozen=True)
class Card:
    """An image with its scores, its place (1 is the worst), and its pictures as data URIs."""

    scores: ImageScores
    place: int
    width: int
    height: int
    photo: str
    truth: str
    prediction: str
    errors: str


def gallery(evaluation: Evaluation, read_image: ReadImage) -> list[Card]:
    """Cards from worst to best, as many as fit in `BUDGET`; the worst, then the best, then those of each class."""
    cards, spent = [], 0
    for place in chosen(evaluation.images, len(evaluation.classes), evaluation.main):
        card = _card(evaluation.images[place], place + 1, evaluation.classes, read_image)
        spent += sum(map(len, (card.photo, card.truth, card.prediction, card.errors)))
        if spent > BUDGET:
            break
        cards.append(card)
    return sorted(cards, key=lambda card: card.place)


def chosen(images: Sequence[ImageScores], classes: int, main: str) -> list[int]:
    """Indices into `images` (sorted worst first) of the worst, the best, and the worst for each class.

    Worst and best are by the score `main`; an image without this score is neither.
    """
    defined = [place for place, image in enumerate(images) if not np.isnan(image.scores[main])]
    places = [*defined[:WORST], *defined[::-1][:BEST]]
    by_class = [
        sorted(
            (place for place, image in enumerate(images) if not np.isnan(image.ious[label])),
            key=lambda place: (images[place].ious[label], place),
        )
        for label in range(classes)
    ]
    for step in range(BY_CLASS):
        places += [ranking[step] for ranking in by_class if step < len(ranking)]
    return list(dict.fromkeys(places))


@dataclass(frozen=True)
class Compared:
    """An image with its truth and the answers of several checkpoints: of each its name, score and prediction."""

    name: str
    width: int
    height: int
    photo: str
    truth: str
    answers: list[tuple[str, float, str]]


def most_different(evaluations: Mapping[str, Evaluation]) -> list[int]:
    """Indices of up to `DIFFERENT` images, first those whose main scores differ most between the evaluations."""
    spreads = {}
    for index, scores in _scores(evaluations).items():
        defined = [score for score in scores.values() if not np.isnan(score)]
        spreads[index] = max(defined) - min(defined) if defined else -1.0
    return sorted(spreads, key=lambda index: (-spreads[index], index))[:DIFFERENT]


def compared(
    evaluations: Mapping[str, Evaluation], open_reader: Callable[[str], ReadImage]
) -> list[Compared]:
    """The images of `most_different`. `open_reader(name)` gives what reads the images of one evaluation."""
    scores = _scores(evaluations)
    found: dict[int, Compared] = {}
    for name, evaluation in evaluations.items():
        names = {image.index: image.name for image in evaluation.images}
        read_image = open_reader(name)
        for index in most_different(evaluations):
            photo, truth, prediction = read_image(index)
            size = page_size(truth)
            first = Compared(names[index], *overlay(photo, truth, evaluation.classes), [])
            answer = _mask(_shrunk(prediction, size), evaluation.classes)
            found.setdefault(index, first).answers.append((name, scores[index][name], answer))
    return [*found.values()]


def _scores(evaluations: Mapping[str, Evaluation]) -> dict[int, dict[str, float]]:
    """The main score of each image, by its index and by evaluation."""
    scores: dict[int, dict[str, float]] = {}
    for name, evaluation in evaluations.items():
        for image in evaluation.images:
            scores.setdefault(image.index, {})[name] = image.scores[evaluation.main]
    return scores


def overlay(
    image_HWC: np.ndarray, mask_HW: np.ndarray, classes: Classes, *, clear: int = 0
) -> tuple[int, int, str, str]:
    """Width and height on the page, and the pictures, as data URIs, of an image and of its mask to lay over it.

    The first `clear` classes are transparent.
    """
    size = page_size(mask_HW)
    return *size, photo_uri(image_HWC, size), _mask(_shrunk(mask_HW, size), classes, clear)


def error_colours(binary: bool) -> dict[str, Colour]:
    """The colour of each kind of error in the error picture."""
    return BINARY_ERRORS if binary else MULTICLASS_ERRORS


def _card(image: ImageScores, place: int, classes: Classes, read_image: ReadImage) -> Card:
    photo, truth, prediction = read_image(image.index)
    size = page_size(truth)
    small_truth, small_prediction = _shrunk(truth, size), _shrunk(prediction, size)
    return Card(
        image,
        place,
        *size,
        photo_uri(photo, size),
        _mask(small_truth, classes),
        _mask(small_prediction, classes),
        _errors(small_truth, small_prediction, binary=classes.binary),
    )


def page_size(mask_HW: np.ndarray, side: int = SIDE) -> tuple[int, int]:
    """Width and height of its picture on the page, the longer at most `side`."""
    height, width = mask_HW.shape
    scale = min(1, side / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _shrunk(mask_HW: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(mask_HW).resize(size, Image.Resampling.NEAREST))


def photo_uri(image_HWC: np.ndarray, size: tuple[int, int]) -> str:
    """The image at this width and height, as a data URI."""
    picture = Image.fromarray(np.ascontiguousarray(as_rgb(image_HWC))).resize(
        size, Image.Resampling.BILINEAR, reducing_gap=2
    )
    return _uri(picture, "jpeg", quality=78, optimize=True)


def _mask(mask_HW: np.ndarray, classes: Classes, clear: int = 0) -> str:
    transparent = {"transparency": bytes(clear)} if clear else {}
    return _indexed(mask_HW, colour_table(classes), **transparent)


def _errors(truth_HW: np.ndarray, prediction_HW: np.ndarray, *, binary: bool) -> str:
    colours = [(0, 0, 0), *error_colours(binary).values(), IGNORE_COLOUR]
    if binary:
        kinds = np.select(
            [(truth_HW == 1) & (prediction_HW == 1), prediction_HW == 1, truth_HW == 1], [1, 2, 3], default=0
        )
    else:
        kinds = (truth_HW != prediction_HW).astype(int)
    kinds[truth_HW == IGNORE_INDEX] = len(colours) - 1
    opacity = bytes([0, *[_OPAQUE] * (len(colours) - 2), _FAINT])
    return _indexed(kinds.astype(np.uint8), np.array(colours, np.uint8), transparency=opacity)


def _indexed(values_HW: np.ndarray, palette: np.ndarray, **options: bytes) -> str:
    picture = Image.fromarray(values_HW)
    picture.putpalette(palette.tobytes())
    return _uri(picture, "png", optimize=True, **options)


def _uri(picture: Image.Image, kind: str, **options: object) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
