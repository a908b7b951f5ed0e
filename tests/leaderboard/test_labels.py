"""Ranks in the picture can be read."""

from itertools import combinations
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from made_runs import write_run

from segmentation.leaderboard.boards import boards
from segmentation.leaderboard.page import labels, render
from segmentation.leaderboard.runs import read_runs


@given(st.lists(st.tuples(st.floats(62, 702), st.floats(14, 344)), max_size=40))
def test_no_label_is_written_over_another_and_no_rank_is_lost(points: list[tuple[float, float]]) -> None:
    written = labels(dict(enumerate(points, start=1)))
    assert not any(one.meets(other) for one, other in combinations(written.values(), 2))
    assert sorted(rank for label in written.values() for rank in label.ranks) == [*range(1, len(points) + 1)]
    assert all((label.x, label.y) == points[rank - 1] for rank, label in written.items())


def test_equal_points_share_a_label(tmp_path: Path) -> None:
    for name, score in (("a", 0.7), ("b", 0.7), ("c", 0.2), ("d", 0.7)):
        write_run(tmp_path / name, backbone=name, miou=score)
    page = render(boards(read_runs([tmp_path]), "val/miou"), [], "", "equal")
    assert page.count(">1-3</text>") == 1 and page.count(">4</text>") == 1
