"""The chart engine: axes, labels, and places in the drawing."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmentation.report.svg import WIDE, Axis, Chart, Dot, Line, draw, rank_labels


@given(st.lists(st.tuples(st.floats(62, 882), st.floats(14, 344)), max_size=40))
def test_labels_do_not_overlap_and_show_every_rank(points: list[tuple[float, float]]) -> None:
    labels = rank_labels(dict(enumerate(points, start=1)))
    assert not any(one.overlaps(other) for one, other in combinations(labels.values(), 2))
    assert sorted(rank for label in labels.values() for rank in label.ranks) == [*range(1, len(points) + 1)]
    assert all((label.x, label.y) == points[rank - 1] for rank, label in labels.items())


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (Axis("share"), [0, 0.25, 0.5, 0.75, 1]),
        (Axis("miou", 0.61, 0.79), [0.65, 0.7, 0.75]),
        (Axis("ms", 1.5, 60, logarithmic=True), [2, 5, 10, 20, 50]),
        (Axis("ms", 10, 14, logarithmic=True), [10, 11, 12, 13, 14]),
    ],
)
def test_ticks_are_round_numbers(axis: Axis, ticks: list[float]) -> None:
    assert axis.ticks() == pytest.approx(ticks)


@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=9), st.booleans())
def test_an_axis_holds_its_values(values: list[float], logarithmic: bool) -> None:
    axis = Axis.around("", values, logarithmic=logarithmic)
    assert all(0 < axis.share(value) < 1 for value in values)
    assert all(axis.low <= tick <= axis.high for tick in axis.ticks())


def test_places_lie_in_the_plot_area() -> None:
    dots = [Dot(0, 0, radius=3), Dot(1, 0.5, radius=9, rank=4, low=0.25, high=0.75)]
    drawn = draw(
        Chart("key", "", "", Axis("x"), Axis("y"), [Line([(0, 1), (1, 0)], "red")], dots, frame=WIDE)
    )
    assert drawn["lines"][0]["points"] == "62,14 882,344"
    large, small = drawn["dots"]
    assert (large["x"], large["y"], large["bottom"], large["top"]) == (882, 179, 261.5, 96.5)
    assert (large["label"].text, large["label"].x) == ("4", 882 + 9 + 4)
    assert (small["x"], small["y"], small["bottom"], small["label"]) == (62, 344, None, None)
