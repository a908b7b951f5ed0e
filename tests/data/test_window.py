"""A window shows what zooming all of a picture and then cropping and padding it would show."""

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmentation.data.augmentation import (
    Span,
    draw_window,
    look_through,
    resize_image,
    resize_mask,
    training_transform,
)
from segmentation.types import IGNORE_INDEX

FILL = 255
sides = st.integers(1, 70)
shapes = st.tuples(sides, sides)


@given(shape=shapes, size=shapes, zoom=st.floats(0.01, 40.0), seed=st.integers(0, 1000))
def test_it_shows_as_much_as_there_is(
    shape: tuple[int, int], size: tuple[int, int], zoom: float, seed: int
) -> None:
    window = draw_window(shape, size, (zoom, zoom), Random(seed))
    seen = look_through(window, np.zeros(shape, np.uint8), resize_mask, fill=FILL)
    assert seen.shape == size
    for span, side, length, axis in zip((window.rows, window.columns), shape, size, (0, 1), strict=True):
        inside = np.flatnonzero((seen == 0).any(axis=1 - axis))
        assert inside.size == min(length, max(1, round(side * zoom)))
        assert np.ptp(inside) == inside.size - 1
        assert 0 <= span.taken.start < span.taken.stop <= side


@given(side=st.integers(2, 300), length=sides, zoom=st.floats(0.1, 40.0), seed=st.integers(0, 1000))
def test_its_zoom_is_the_one_drawn(side: int, length: int, zoom: float, seed: int) -> None:
    span = draw_window((side, side), (length, length), (zoom, zoom), Random(seed)).rows
    taken = span.taken.stop - span.taken.start
    # To half a zoomed pixel here, and to half a one of the whole picture.
    assert abs(span.zoomed - taken * zoom) <= 0.5 + 0.5 * taken / side or side * zoom < 1
    # No more is zoomed than the window shows, and the rest of the pixels at its ends.
    assert span.zoomed <= length + 2 * max(zoom, 1) + 2


def test_unzoomed_it_is_a_crop() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    window = draw_window(picture.shape, (16, 60), (1.0, 1.0), Random(0))
    seen = look_through(window, picture, resize_image, fill=FILL)
    columns = window.columns.filled
    assert np.array_equal(seen[:, columns], picture[window.rows.taken])
    assert (np.delete(seen, columns, axis=1) == FILL).all()


def places(spans: list[Span]) -> np.ndarray:
    """Where the window begins on the zoomed picture, in pixels of the picture."""
    return np.array(
        [
            span.taken.start + span.kept.start * (span.taken.stop - span.taken.start) / span.zoomed
            for span in spans
        ]
    )


def test_every_zoom_and_every_place_is_as_likely() -> None:
    drawn = [draw_window((60, 64), (24, 24), (0.8, 2.0), Random(seed)) for seed in range(3000)]
    zooms = np.array([w.rows.zoomed / (w.rows.taken.stop - w.rows.taken.start) for w in drawn])
    assert abs(zooms.mean() - 1.4) < 0.03
    assert abs(zooms.std() - 1.2 / 12**0.5) < 0.03
    # From 0 to what is left beside the window, evenly.
    shares = places([w.rows for w in drawn]) / (60 - 24 / zooms)
    counts, _ = np.histogram(shares, bins=5, range=(-0.02, 1.02))
    assert counts.min() > 500
    assert {
        place.start
        for place in (draw_window((9, 9), (20, 20), (1, 1), Random(s)).rows.filled for s in range(200))
    } == set(range(12))


def test_a_high_zoom_reaches_between_the_pixels() -> None:
    drawn = [draw_window((5, 5), (8, 8), (10, 10), Random(seed)).rows for seed in range(500)]
    assert {round(10 * place) for place in places(drawn)} == set(range(50 - 8 + 1))


@pytest.mark.parametrize("zoom", [0.7, 1.0, 1.7, 3.0, 12.0])
def test_pictures_move_as_if_they_were_zoomed_whole(zoom: float) -> None:
    # Slopes keep their slope: what lies where in the window can be read off its values, along both axes.
    rows, columns = np.mgrid[0:120, 0:120].astype(np.uint8) * 2
    picture = np.stack([rows, columns, rows], axis=2)
    for seed in range(20):
        window = draw_window(picture.shape, (64, 48), (zoom, zoom), Random(seed))
        seen = look_through(window, picture, resize_image, fill=FILL).astype(float) / 2
        for axis, span in enumerate((window.rows, window.columns)):
            cells = np.arange(span.kept.stop - span.kept.start)
            expected = places([span])[0] + (cells + 0.5) / zoom - 0.5
            found = seen[..., axis].mean(axis=1 - axis)[cells]
            inner = (expected > 0) & (expected < 119)
            assert np.abs(found - expected)[inner].max() < 0.5 + 0.6 / zoom


@pytest.mark.parametrize("zoom", [1.0, 1.7, 4.0])
@pytest.mark.parametrize("seed", range(5))
def test_labels_lie_where_their_pixels_do(zoom: float, seed: int) -> None:
    rows, columns = np.mgrid[0:100, 0:100].astype(np.uint8)
    transform = training_transform(size=(40, 40), resize=False, scale=(zoom, zoom))
    for slope in (rows, columns):
        image = np.repeat(slope[..., None], 3, axis=2)
        after = transform({"image": image, "mask": slope, "name": "x"}, seed)
        assert (after["mask"] != IGNORE_INDEX).all()
        # The nearest pixel is half a one off at most, and bilinear values are rounded.
        assert np.abs(after["image"][..., 0].astype(float) - after["mask"]).max() <= 1
