"""The selection of images that a report shows, and their pictures."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from made_evaluation import make_evaluation
from PIL import Image

from segmentation.report import gallery as gallery_module
from segmentation.report.colours import BINARY_ERRORS, MULTICLASS_ERRORS
from segmentation.report.evaluation import ImageScores, worst_first
from segmentation.report.gallery import chosen, gallery
from segmentation.types import IGNORE_COLOUR, Classes

BINARY = Classes(("background", "crack"), binary=True)
THREE = Classes(("sky", "road", "car"))


def opened(uri: str) -> Image.Image:
    kind, _, data = uri.partition(";base64,")
    assert kind in ("data:image/png", "data:image/jpeg")
    return Image.open(io.BytesIO(base64.b64decode(data)))


def scored(*ious: float, name: str = "x") -> ImageScores:
    mean = np.nan if np.isnan(ious).all() else float(np.nanmean(ious))
    return ImageScores(name, 0, {"miou": mean, "iou": ious[-1]}, np.array(ious))


def test_images_go_from_worst_to_best_and_those_without_a_score_come_last() -> None:
    images = [scored(0.5, name="b"), scored(np.nan, name="n"), scored(0.1, name="c"), scored(0.5, name="a")]
    assert [image.name for image in worst_first(images, binary=False)] == ["c", "a", "b", "n"]


def test_the_worst_the_best_and_each_class_are_chosen() -> None:
    images = [scored(place / 100, np.nan, np.nan if place != 50 else 0.9) for place in range(100)]
    places = chosen(images, 3, "miou")
    assert places[:12] == list(range(12))
    assert places[12:18] == list(range(99, 93, -1))
    assert 50 in places
    assert len(places) == len(set(places)) == 19


def test_images_without_a_score_are_neither_best_nor_worst() -> None:
    # Nothing to find and nothing found: the background is right, the foreground has no score.
    images = [scored(0.9, place / 20) for place in range(20)] + [scored(1.0, np.nan) for _ in range(8)]
    places = chosen(images, 2, "iou")
    assert places == [*range(18 - 6), *range(19, 13, -1)]


@pytest.mark.parametrize("classes", [BINARY, THREE], ids=["binary", "multiclass"])
def test_the_error_picture_marks_what_is_wrong(classes: Classes, tmp_path: Path) -> None:
    evaluation, read_image = make_evaluation(tmp_path, ["a", "b", "c"], classes)
    for card in gallery(evaluation, read_image):
        _, truth, prediction = read_image(card.scores.index)
        errors = np.asarray(opened(card.errors).convert("RGBA"))
        drawn = {tuple(colour) for colour in errors[errors[..., 3] > 0][:, :3].tolist()}
        assert drawn <= {*(BINARY_ERRORS if classes.binary else MULTICLASS_ERRORS).values(), IGNORE_COLOUR}
        valid = truth != 255
        wrong = (truth != prediction) & valid
        if classes.binary:
            missed = (errors[..., :3] == BINARY_ERRORS["miss"]).all(-1) & (errors[..., 3] > 0)
            assert (missed == ((truth == 1) & (prediction == 0))).all()
            false = (errors[..., :3] == BINARY_ERRORS["false alarm"]).all(-1) & (errors[..., 3] > 0)
            assert (false == (wrong & (prediction == 1))).all()
        else:
            assert (((errors[..., 3] > 0) & valid) == wrong).all()
        assert np.asarray(opened(card.prediction)).tolist() == prediction.tolist()


def test_the_pictures_fit_in_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluation, read_image = make_evaluation(tmp_path, [f"{index:02d}" for index in range(8)], THREE)
    every = gallery(evaluation, read_image)
    first = every[0]
    size = sum(map(len, (first.photo, first.truth, first.prediction, first.errors)))
    monkeypatch.setattr(gallery_module, "BUDGET", 3 * size + size // 2)
    some = gallery(evaluation, read_image)
    assert 1 <= len(some) < len(every) == 8
    assert [card.place for card in some] == list(range(1, len(some) + 1))
