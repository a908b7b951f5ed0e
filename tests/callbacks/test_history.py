"""What a run leaves for people to look at: rows, curves, pictures."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segmentation.callbacks.history import History, draw_curves, read_history
from segmentation.types import IGNORE_COLOUR, Classes
from segmentation.visualization import colourise, legend, side_by_side

THREE = Classes(("ground", "a rather long name", "tree"), ((1, 2, 3), (200, 0, 0), (0, 200, 0)))


def log_epochs(history: History, epochs: range, value: float) -> None:
    for epoch in epochs:
        history.log_metrics({"val/miou": value, "val/loss": math.nan, "epoch": epoch}, step=epoch)
        history.log_metrics({"learning_rate/head": 0.1}, step=epoch)
        history.log_metrics({"train/loss": 1.0 / (epoch + 1), "epoch": epoch}, step=epoch)
        history.log_metrics({"test/loss": 9.0, "epoch": epoch}, step=epoch)


def test_an_epoch_is_a_row_and_a_resumed_run_takes_them_up(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    log_epochs(History(path), range(3), 0.1)
    assert [row["epoch"] for row in read_history(path)] == [1, 2, 3]
    assert "test/loss" not in read_history(path)[0]

    resumed = History(path)
    resumed.resume_after(2)
    log_epochs(resumed, range(2, 4), 0.7)
    assert [row["val/miou"] for row in read_history(path)] == [0.1, 0.1, 0.7, 0.7]
    assert resumed.row(3)["train/loss"] == pytest.approx(1 / 3)


def test_the_classes_have_a_file_of_their_own(tmp_path: Path) -> None:
    def log_epoch(history: History, epoch: int, iou: float) -> None:
        scores = {"val/miou": iou, "val_iou/road": iou, "val_iou/a, b": math.nan}
        history.log_metrics({**scores, "epoch": epoch}, step=epoch)
        history.log_metrics({"train/loss": 1.0, "epoch": epoch}, step=epoch)

    first = History(tmp_path / "metrics.csv")
    for epoch in range(2):
        log_epoch(first, epoch, 0.1)
    resumed = History(tmp_path / "metrics.csv")
    resumed.resume_after(1)
    log_epoch(resumed, 1, 0.2)
    rows = read_history(tmp_path / "classes.csv")
    assert [list(row) for row in rows] == [["epoch", "step", "val_iou/road", "val_iou/a, b"]] * 2
    assert [row["val_iou/road"] for row in rows] == [0.1, 0.2]
    assert list(read_history(tmp_path / "metrics.csv")[0]) == ["epoch", "step", "train/loss", "val/miou"]


def test_a_new_history_does_not_read_an_old_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    log_epochs(History(path), range(5), 0.1)
    log_epochs(History(path), range(2), 0.2)
    assert [row["val/miou"] for row in read_history(path)] == [0.2, 0.2]


def test_curves_are_drawn_from_the_history(tmp_path: Path) -> None:
    picture = tmp_path / "curves.png"
    draw_curves(tmp_path / "metrics.csv", picture)
    assert not picture.exists()
    log_epochs(History(tmp_path / "metrics.csv"), range(3), 0.5)
    draw_curves(tmp_path / "metrics.csv", picture)
    pixels = np.asarray(Image.open(picture).convert("RGB")).reshape(-1, 3)
    for colour in ((0x44, 0x77, 0xAA), (0xCC, 0x66, 0x77)):  # train and val
        assert (np.abs(pixels.astype(int) - colour).max(axis=1) < 8).sum() > 20


def test_the_best_epoch_is_marked(tmp_path: Path) -> None:
    log_epochs(History(tmp_path / "metrics.csv"), range(1), 0.5)
    pictures = [tmp_path / "plain.png", tmp_path / "marked.png"]
    for picture, best in zip(pictures, (None, 1), strict=True):
        draw_curves(tmp_path / "metrics.csv", picture, best)
    plain, marked = (np.asarray(Image.open(picture).convert("L")) for picture in pictures)
    assert (plain != marked).any()


def test_labels_take_their_colours_and_ignore_its_own() -> None:
    mask = np.array([[0, 1, 2, 255]], np.uint8)
    assert colourise(mask, THREE).tolist() == [[[1, 2, 3], [200, 0, 0], [0, 200, 0], list(IGNORE_COLOUR)]]


@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (1, 1)])
def test_a_page_shows_image_truth_and_prediction(shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 77, np.uint8)
    truth, prediction = np.full(shape, 1, np.uint8), np.full(shape, 2, np.uint8)
    page = np.asarray(side_by_side([(image, truth, prediction)] * 2, THREE, height=48))
    present = {tuple(colour) for colour in page.reshape(-1, 3).tolist()}
    assert {(77, 77, 77), (200, 0, 0), (0, 200, 0)} <= present
    assert not {(1, 2, 3), IGNORE_COLOUR} & present  # the legend has only what occurs


def test_a_caption_stands_below_its_row() -> None:
    row = (np.zeros((9, 9, 3), np.uint8), np.ones((9, 9), np.uint8), np.ones((9, 9), np.uint8))
    plain, told = (side_by_side([row] * 2, THREE, captions=texts) for texts in ((), ("one   IoU 0.5", "two")))
    assert told.width == plain.width and told.height == plain.height + 2 * 20


def test_two_classes_without_colours_differ_in_brightness() -> None:
    dark, bright = (sum(colour) for colour in Classes(("background", "crack"), binary=True).palette)
    assert bright - dark > 400


def test_a_narrow_legend_wraps() -> None:
    assert legend(THREE, width=120).height > legend(THREE, width=900).height


def test_the_line_of_an_epoch_fits_into_a_terminal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="segmentation")
    scores = {"train/loss": 0.01234, "val/loss": 0.01234, "val/miou": 0.01234}
    History(tmp_path / "metrics.csv").log_metrics({"epoch": 99, "train/images_per_second": 123.45, **scores})
    assert caplog.messages[-1].endswith("img/s 123.5") and len(caplog.messages[-1]) <= 80
