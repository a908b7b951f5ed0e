"""The table and the figure of benchmark results."""

import csv
import itertools
import random
from pathlib import Path

import pytest
from made_rows import score, write_result
from PIL import Image

from segmentation.benchmark import gather
from segmentation.benchmark.plot import Box, place, speed_figure
from segmentation.benchmark.results import read_rows
from segmentation.errors import UserError


def table_rows(folder: Path) -> list[list[str]]:
    lines = (folder / "table.md").read_text().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def test_the_table_shows_what_was_measured(tmp_path: Path) -> None:
    write_result(tmp_path / "0_small", "small")
    text = gather(tmp_path)
    head, _, row = table_rows(tmp_path)
    assert head == [
        *("backbone", "parameters M", "GFLOPs", "train img/s (batch 4)", "infer img/s (batch 4)"),
        *("latency ms (batch 1)", "peak MB"),
    ]
    assert row == ["small", "11.2", "2.5", "100", "500", "5", "123"]
    for words in (
        "head fcn",
        "size 64x96",
        "a test device",
        "2026-11-21",
        "torch 2.15.0",
        "at most 5% of the median",
    ):
        assert words in text
    assert "```\npython benchmark.py -m 'backbone=glob(*)'\n```" in (tmp_path / "table.md").read_text()
    with Image.open(tmp_path / "speed.png") as picture:
        assert picture.size[0] > 800


def test_differing_settings_are_columns_and_failures_are_listed(tmp_path: Path) -> None:
    write_result(tmp_path / "0", "small", score=score(0.5))
    write_result(tmp_path / "1", "small", output_stride=8, flops=5_000_000_000)
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "error.txt").write_text("Traceback\nit cannot | <b>\n")
    text = gather(tmp_path)
    head, _, *rows = table_rows(tmp_path)
    assert [head[1], head[-1]] == ["stride", "mIoU"]
    assert {(row[1], row[-1]) for row in rows} == {("16", "0.500"), ("8", "-")}
    assert "- 2: it cannot \\| &lt;b>" in text
    assert "on camvid, the mean of 2" in text
    with (tmp_path / "table.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert sorted((row["stride"], row["miou"], row["parameters"]) for row in read) == [
        ("16", "0.5", "11250000"),
        ("8", "", "11250000"),
    ]


def test_a_foreign_result_is_named(tmp_path: Path) -> None:
    write_result(tmp_path / "0", "small")
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "result.json").write_text('{"accuracy": 1}')
    with pytest.raises(UserError, match=r"1/result\.json is no result of benchmark"):
        gather(tmp_path)


def test_without_results_nothing_is_written(tmp_path: Path) -> None:
    assert gather(tmp_path) == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("scored", [True, False])
def test_forty_names_do_not_overlap(tmp_path: Path, scored: bool) -> None:
    numbers = random.Random(3)
    names = [f"backbone_{index}_{'x' * numbers.randrange(9)}" for index in range(40)]
    for name in names:
        write_result(
            tmp_path / name,
            name,
            parameters=int(10 ** numbers.uniform(6, 8)),
            flops=int(10 ** numbers.uniform(9, 11)),
            score=score(numbers.uniform(0.3, 0.6)) if scored else None,
        )  # all equally fast: in a line, where labels have the least room
    figure = speed_figure(read_rows(tmp_path))
    assert len(figure.axes) == 1 + scored
    for axes in figure.axes:
        texts = [text for text in axes.texts if text.get_text()]
        assert sorted(text.get_text() for text in texts) == sorted(names)
        extents = [text.get_window_extent() for text in texts]
        boxes = [Box(extent.x0, extent.y0, extent.x1, extent.y1) for extent in extents]
        frame = Box(*axes.bbox.extents)
        assert all(box.overlap(frame) == pytest.approx(box.area) for box in boxes)
        assert sum(one.overlap(other) > 0 for one, other in itertools.combinations(boxes, 2)) == 0


def test_a_label_stands_beside_its_point_and_clear_of_others() -> None:
    frame = Box(0, 0, 400, 400)
    alone = place([(200, 200)], [5], [(40, 10)], frame)[0]
    assert alone.left >= 205 and alone.left < 215  # nothing in the way: at the right
    first, second = place([(200, 200), (200, 200)], [5, 5], [(40, 10)] * 2, frame)
    assert first.overlap(second) == 0
    corner = place([(399, 399)], [5], [(40, 10)], frame)[0]
    assert corner.overlap(frame) == pytest.approx(corner.area)
