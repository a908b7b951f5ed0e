"""Boards: which runs share a row or a table, and how rows are ranked."""

import csv
import json
import math
import re
import statistics
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_runs import made, write_run

from segmentation.errors import UserError
from segmentation.leaderboard.boards import boards, differing_options, pareto_front
from segmentation.leaderboard.latency import timed
from segmentation.leaderboard.page import explanations
from segmentation.leaderboard.runs import read_runs


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    top = tmp_path / "sweep"
    for seed, score in ((1, 0.5), (2, 0.6), (3, 0.7)):
        write_run(top / f"small{seed}", seed=seed, miou=score)
        large = {"backbone": "resnet50", "parameters": 20_000_000, "seed": seed}
        write_run(top / "deep" / f"large{seed}", miou=score + 0.05, **large)
    write_run(top / "cut", seed=4, finished=False)
    (top / "cut" / "metrics.csv").write_text("epoch\n1\n2\n")
    write_run(top / "bad", seed=5, finished=False)
    (top / "bad" / "error.txt").write_text("Traceback\nValueError: lr | is <b>bad</b>\n")
    (top / "worse").mkdir()
    (top / "worse" / "error.txt").write_text("no data\n")
    return top


def test_seeds_share_a_row_with_mean_and_spread(sweep: Path) -> None:
    (board,) = boards(read_runs([sweep]), "val/miou")
    assert board.columns == ("backbone",)
    assert [row.settings["backbone"] for row in board.rows] == ["resnet50", "resnet18"]
    score = board.rows[1].scores["val/miou"]
    assert score is not None
    assert (score.mean, score.count) == (pytest.approx(0.6), 3)
    assert score.deviation == pytest.approx(statistics.stdev([0.5, 0.6, 0.7]))
    test = board.rows[1].scores["test/miou"]
    assert test is not None and test.mean == pytest.approx(0.5)


def test_folds_share_a_row_although_their_images_differ(tmp_path: Path) -> None:
    for fold, score in enumerate((0.5, 0.6, 0.7)):
        options = {"dataset": {"name": "pairs", "folds": 3, "fold": fold}}
        protocol = {"split_sha256": {"train": "a", "val": f"b{fold}", "test": f"c{fold}"}}
        for backbone in ("resnet18", "resnet50"):
            folder = tmp_path / f"{backbone}{fold}"
            write_run(
                folder, miou=score, backbone=backbone, protocol=protocol, data=options["dataset"], **options
            )
    (board,) = boards(read_runs([tmp_path]), "val/miou")
    assert board.metrics == ("val/miou", "test/miou")
    assert board.columns == ("backbone",)
    assert len(board.rows) == 2
    for row in board.rows:
        score = row.scores["val/miou"]
        assert score is not None and (round(score.mean, 6), score.count) == (0.6, 3)


@pytest.mark.parametrize(
    ("entry", "values", "metric", "count"),
    [
        ("temperature", (1.1, 1.2), "val/miou", 1),
        ("threshold", (0.4, 0.5), "val/miou", 1),
        ("loss", ("of each image", "of each block"), "val/miou", 1),
        ("loss", ("of each image", "of each block"), "val/loss", 2),
        ("scored_at", ("the size of each mask file", "256x256"), "val/miou", 2),
    ],
)
def test_what_belongs_to_a_model_divides_no_board(
    entry: str, values: tuple[Any, Any], metric: str, count: int, tmp_path: Path
) -> None:
    for seed, value in enumerate(values):
        write_run(tmp_path / str(seed), seed=seed, protocol={entry: value})
    assert len(boards(read_runs([tmp_path]), metric)) == count


def test_the_files_of_a_leaderboard(sweep: Path) -> None:
    assert made(f"runs={sweep}", "latency=0") == pytest.approx(0.65)
    text = (sweep / "leaderboard.md").read_text()
    lines = text.splitlines()
    assert "| 1 | resnet50 | 0.6500 ± 0.1000 | 0.5500 ± 0.1000 | 3 | 20.0 |" in lines
    assert "| 2 | resnet18 | 0.6000 ± 0.1000 | 0.5000 ± 0.1000 | 3 | 1.0 |" in lines
    assert "- cut: not finished: 2 whole epoch(s) so far" in lines
    assert "- bad: ValueError: lr \\| is &lt;b>bad&lt;/b>" in lines
    assert "- worse: no data" in lines
    with (sweep / "leaderboard.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["rank"], row["backbone"], row["val/miou runs"]) for row in rows] == [
        ("1", "resnet50", "3"),
        ("2", "resnet18", "3"),
    ]
    assert float(rows[0]["val/miou deviation"]) == pytest.approx(0.1)
    # Its own files are no runs: once more, elsewhere, by another number.
    made(f"runs=[{sweep}]", "latency=0", "metric=test/miou", f"output={sweep / 'out'}")
    assert "ranked by test/miou" in (sweep / "out" / "leaderboard.md").read_text().lower()


@pytest.mark.parametrize(
    "other",
    [
        {"protocol": {"scored_at": "64x64"}},
        {"protocol": {"split_sha256": {"train": "aaa", "val": "other", "test": "ccc"}}},
        {"data": {"name": "voc"}},
        {"data": {"noise": 3}},
    ],
)
def test_runs_evaluated_differently_get_separate_boards(other: dict[str, Any], tmp_path: Path) -> None:
    for seed in (1, 2):
        write_run(tmp_path / f"a{seed}", seed=seed)
    write_run(tmp_path / "b", miou=0.9, **other)
    first, second = boards(read_runs([tmp_path]), "val/miou")
    assert [len(first.rows[0].runs), len(second.rows[0].runs)] == [2, 1]
    assert first.apart.keys() == second.apart.keys() and len(first.apart) == 1
    made(f"runs={tmp_path}", "latency=0")
    heads = re.findall(r"^## Board (\d): (.+)$", (tmp_path / "leaderboard.md").read_text(), re.MULTILINE)
    assert [number for number, _ in heads] == ["1", "2"] and heads[0][1] != heads[1][1]


@pytest.mark.parametrize(
    "other",
    [
        {"protocol": {"input": "resized to 32x32"}},
        {"protocol": {"split_sha256": {"train": "other", "val": "bbb", "test": "ccc"}}},
        {"data": {"train": 5, "images": {"train": 5}}},
    ],
)
def test_runs_may_differ_in_what_belongs_to_the_model(other: dict[str, Any], tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", **other)
    assert len(boards(read_runs([tmp_path]), "val/miou")) == 1


def test_only_differing_options_are_columns(tmp_path: Path) -> None:
    dice, focal = {"name": "dice", "smooth": 1.0}, {"name": "focal", "gamma": 2.0}
    write_run(tmp_path / "a", loss=dice, seed=1)
    write_run(tmp_path / "b", loss=focal, seed=2)
    assert differing_options(read_runs([tmp_path])) == ["loss.name"]
    write_run(tmp_path / "c", loss={**focal, "gamma": 3.0}, backbone="resnet34", weights="coco")
    assert differing_options(read_runs([tmp_path])) == ["backbone.name", "loss.gamma", "loss.name", "weights"]


def test_options_that_follow_from_a_choice_are_no_columns(tmp_path: Path) -> None:
    for choice, flip, scale in (("light", 0.0, [0.8, 1.25]), ("strong", 0.5, [0.5, 2.0])):
        folder = write_run(tmp_path / choice, augmentation={"flip": flip, "scale": scale})
        choices = {"augmentation": choice, "sweep": None, "hydra/launcher": "basic"}
        (folder / ".hydra" / "hydra.yaml").write_text(
            json.dumps({"hydra": {"runtime": {"choices": choices}}})
        )
    (board,) = boards(read_runs([tmp_path]), "val/miou")
    assert board.columns == ("augmentation",)
    assert {row.settings["augmentation"] for row in board.rows} == {"light", "strong"}


def test_values_are_told_apart_beyond_the_digits_shown(tmp_path: Path) -> None:
    for index in range(2):
        write_run(tmp_path / str(index), optimizer={"lr": 0.0012345 + index * 1e-9})
    (board,) = boards(read_runs([tmp_path]), "val/miou")
    assert len(board.rows) == 2


def test_lower_losses_rank_first_and_missing_scores_last(tmp_path: Path) -> None:
    for name, value in (("a", 0.2), ("b", None), ("c", 0.1)):
        folder = write_run(tmp_path / name, backbone=name)
        report = json.loads((folder / "report.json").read_text())
        report["metrics"]["val/loss"] = value
        (folder / "report.json").write_text(json.dumps(report))
    (board,) = boards(read_runs([tmp_path]), "val/loss")
    assert [row.settings["backbone"] for row in board.rows] == ["c", "a", "b"]
    assert board.rows[2].scores["val/loss"] is None


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), max_size=12))
def test_the_pareto_front_holds_all_unbeaten_points(points: list[tuple[int, int]]) -> None:
    def beaten(point: tuple[int, int]) -> bool:
        return any(x <= point[0] and y >= point[1] and (x, y) != point for x, y in points)

    front = pareto_front([(float(x), float(y)) for x, y in points])
    assert set(front) == {place for place, point in enumerate(points) if not beaten(point)}
    assert [points[place][0] for place in front] == sorted(points[place][0] for place in front)


def test_a_model_without_a_checkpoint_has_no_latency(sweep: Path) -> None:
    assert timed(read_runs([sweep])[0], seconds=0.01) is None
    made(f"runs={sweep}", "latency=0.01")
    assert "latency" not in (sweep / "leaderboard.md").read_text()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["runs=nowhere"], "runs=nowhere is no folder"),
        (["metric=val/mio"], "Did you mean 'val/miou'"),
        (["latency=-1"], "latency=-1"),
        (["benchmarks=nowhere"], "no result of benchmark.py"),
        (["runs=[]"], "names no folder"),
        (["+colour=red"], "colour"),
    ],
)
def test_wrong_options_raise_errors(overrides: list[str], words: str, sweep: Path) -> None:
    with pytest.raises(UserError, match=words):
        made(f"runs={sweep}", *overrides)
    assert not (sweep / "leaderboard.md").exists()


def test_a_leaderboard_without_finished_runs(tmp_path: Path) -> None:
    write_run(tmp_path / "cut", finished=False)
    assert math.isnan(made(f"runs={tmp_path}"))
    assert "- cut: not finished: 0 whole epoch(s)" in (tmp_path / "leaderboard.md").read_text()
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no run"):
        made(f"runs={tmp_path / 'empty'}")


@pytest.mark.parametrize("only", [None, "road"])
def test_a_model_that_predicts_one_class_is_noted(only: str | None, tmp_path: Path) -> None:
    baseline = {"everywhere": "road", "metrics": {"miou": 0.25}, "model_predicts_only": only}
    write_run(tmp_path / "one", baseline=baseline)
    made(f"runs={tmp_path}", "latency=0")
    for name in ("leaderboard.md", "leaderboard.html"):
        text = (tmp_path / name).read_text()
        assert ("predicts only road" in text) == (only is not None)
        assert ("road everywhere: mIoU 0.2500" in text) == (only is not None)


def test_a_baseline_of_wrong_types_is_a_damaged_report(tmp_path: Path) -> None:
    write_run(tmp_path / "one", baseline={"everywhere": ["x"]})
    (run,) = read_runs([tmp_path])
    assert run.report is None and "report.json is damaged" in run.reason


def test_what_is_the_same_in_all_runs_is_said(tmp_path: Path) -> None:
    for backbone in ("a", "b"):
        write_run(tmp_path / backbone, backbone=backbone, seed=42)
    (board,) = boards(read_runs([tmp_path]), "val/miou")
    assert board.shared == {"loss": "dice", "data.size": "[64, 64]", "seed": "42"}
    assert "The same in all of them: loss dice, data.size [64, 64], seed 42." in explanations(board, "")
