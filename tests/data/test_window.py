"""A window shows what zooming all of a picture and then cropping and padding it would show."""

from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segmentation.data.augmentation import resize_image, resize_mask
from segmentation.data.window import Span, draw_window, look_through

FILL = 255
sides = st.integers(1, 70)
shapes = st.tuples(sides, sides)


@given(shape=shapes, size=shapes, zoom=st.floats(0.2, 4.0), seed=st.integers(0, 1000))
def test_it_shows_what_the_zoomed_picture_has(
    shape: tuple[int, int], size: tuple[int, int], zoom: float, seed: int
) -> None:
    window = draw_window(shape, size, (zoom, zoom), Random(seed))
    seen = look_through(window, np.zeros(shape, np.uint8), resize_mask, fill=FILL)
    assert seen.shape == size
    for span, side, length, axis in zip(window, shape, size, (0, 1), strict=True):
        inside = np.flatnonzero((seen == 0).any(axis=1 - axis))
        assert inside.size == min(length, max(1, round(side * zoom)))
        assert np.ptp(inside) == inside.size - 1
        assert 0 <= span.start <= span.start + span.taken <= side
        # The zoom that was asked for, but for a picture smaller than a pixel and for pixels taken whole.
        assert (
            abs(span.taken * zoom - span.filled) <= max(1, zoom) / 2 + 0.5 or span.filled == span.taken == 1
        )


def test_unzoomed_it_is_a_crop() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    window = draw_window(picture.shape, (16, 60), (1.0, 1.0), Random(0))
    seen = look_through(window, picture, resize_image, fill=FILL)
    top, left = window.rows.start, window.columns.at
    assert np.array_equal(seen[:, left : left + 50], picture[top : top + 16])
    assert (np.delete(seen, np.s_[left : left + 50], axis=1) == FILL).all()


def test_all_of_a_picture_comes_to_be_seen_anywhere_in_the_window() -> None:
    windows = [draw_window((20, 9), (8, 16), (0.8, 1.25), Random(seed)) for seed in range(400)]

    def reached(spans: list[Span]) -> set[int]:
        return {pixel for span in spans for pixel in range(span.start, span.start + span.taken)}

    assert reached([window.rows for window in windows]) == set(range(20))
    assert reached([window.columns for window in windows]) == set(range(9))
    places = {window.columns.at for window in windows}
    assert {0, 16 - 11} <= places


def test_image_and_mask_agree_as_if_zoomed_whole() -> None:
    # A slope keeps its slope: what lies where in the window can be read off its values.
    picture = np.repeat(np.arange(0, 240, 2, dtype=np.uint8)[:, None], 30, axis=1)
    window = draw_window(picture.shape, (64, 64), (1.7, 1.7), Random(3))
    seen = look_through(window, picture[..., None], resize_image, fill=FILL)[:, window.columns.at, 0]
    expected = 2 * (window.rows.start + (np.arange(64) + 0.5) / 1.7 - 0.5)
    assert np.abs(seen - expected)[2:-2].max() <= 2.5
    labels = look_through(window, picture, resize_mask, fill=FILL)[:, window.columns.at]
    assert np.abs(labels.astype(int) - seen).max() <= 4
