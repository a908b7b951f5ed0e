"""Which runs a board counts: each folder and each seed once, without damaged runs."""

import csv
import json
import os
from pathlib import Path

import pytest
from made_runs import made, write_run
from scripts import run_script

from segmentation.leaderboard.boards import Board, boards
from segmentation.leaderboard.page import score_chart
from segmentation.leaderboard.runs import read_runs


def ranked(*folders: Path, metric: str = "val/miou") -> Board:
    (board,) = boards(read_runs(folders), metric)
    return board


def kept_by_hydra(folder: Path, cwd: Path) -> None:
    (folder / ".hydra" / "hydra.yaml").write_text(json.dumps({"hydra": {"runtime": {"cwd": str(cwd)}}}))


def test_several_folders_make_one_table(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    write_run(one / "seed-1", seed=1, miou=0.4)
    write_run(other / "seed-2", seed=2, miou=0.6)
    done = run_script("leaderboard.py", f"runs=[{one},{other}]", "latency=0", fresh=True)
    assert done.returncode == 0, done.stderr
    assert "| 1 | 0.5000 ± 0.1414 | 0.4000 ± 0.1414 | 2 | 1.0 |" in (one / "leaderboard.md").read_text()


def test_a_folder_given_twice_counts_once_and_names_tell_folders_apart(tmp_path: Path) -> None:
    for seed, top in ((1, "one"), (2, "other")):
        write_run(tmp_path / top / "job", seed=seed)
    (tmp_path / "link").symlink_to(tmp_path / "one")
    runs = read_runs([tmp_path / "one", tmp_path / "other", tmp_path / "one" / "job", tmp_path / "link"])
    assert [run.name for run in runs] == ["one/job", "other/job"]
    assert [run.name for run in read_runs([tmp_path / "one" / "job"])] == ["job"]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.yaml", b"backbone: [torn"),
        ("config.yaml", b""),
        ("config.yaml", b"\xff\xfe"),
        ("report.json", b""),
        ("report.json", b'{"metrics": {"val/miou": 0.9'),
        ("report.json", b"[]"),
        ("report.json", b'{"metrics": {}, "protocol": {}, "model": {}, "data": {}}'),
        ("report.json", b'{"metrics": {"val/miou": "good"}}'),
        (".hydra/hydra.yaml", b"hydra: {"),
    ],
)
def test_a_damaged_run_is_listed_and_the_others_are_ranked(file: str, content: bytes, tmp_path: Path) -> None:
    write_run(tmp_path / "whole", miou=0.5)
    write_run(tmp_path / "hurt", miou=0.9, seed=2)
    (tmp_path / "hurt" / file).write_bytes(content)
    assert made(f"runs={tmp_path}", "latency=0") == pytest.approx(0.5)
    text = (tmp_path / "leaderboard.md").read_text()
    assert f"- hurt: {file} is damaged: delete the run, or start it again" in text.splitlines()


def test_a_row_that_lacks_a_seeds_score_ranks_after_complete_rows(tmp_path: Path) -> None:
    for seed, score in ((1, 0.9), (2, 0.9), (3, None)):
        write_run(tmp_path / f"lucky{seed}", backbone="lucky", seed=seed, miou=score, parameters=2_000_000)
        write_run(tmp_path / f"steady{seed}", backbone="steady", seed=seed, miou=0.6, parameters=3_000_000)
        write_run(tmp_path / f"lost{seed}", backbone="lost", seed=seed, miou=None)
    board = ranked(tmp_path)
    assert [row.label for row in board.rows] == ["steady", "lucky", "lost"]
    found = score_chart(board)
    assert found is not None
    chart, front = found
    assert front == [1] and len(chart.dots) == 2
    made(f"runs={tmp_path}", "latency=0")
    text = (tmp_path / "leaderboard.md").read_text()
    assert "| 2 | lucky | 0.9000 ± 0.0000 (2 of 3) | 0.8000 ± 0.0000 (2 of 3) | 3 | 2.0 |" in text
    assert "have no such number" in text
    with (tmp_path / "leaderboard.csv").open(newline="") as file:
        counts = [(row["runs"], row["val/miou runs"]) for row in csv.DictReader(file)]
    assert counts == [("3", "3"), ("3", "2"), ("3", "0")]


def test_of_the_same_options_and_seed_the_newest_counts(tmp_path: Path) -> None:
    # The newest is neither the first nor the last by name.
    for name, seed, score, age in (
        ("a", 1, 0.1, 30),
        ("b", 1, 0.5, 10),
        ("c", 1, 0.2, 20),
        ("d", 2, 0.7, 40),
    ):
        folder = write_run(tmp_path / name, seed=seed, miou=score)
        os.utime(folder / "report.json", (1e9 - age, 1e9 - age))
    (row,) = ranked(tmp_path).rows
    assert [run.name for run in row.runs] == ["b", "d"]
    score = row.scores["val/miou"]
    assert score is not None and (score.mean, score.count) == (pytest.approx(0.6), 2)
    made(f"runs={tmp_path}", "latency=0")
    assert "same options and seed: a, c." in (tmp_path / "leaderboard.md").read_text()


def test_the_other_split_is_shown_if_all_runs_have_the_same_images(tmp_path: Path) -> None:
    write_run(tmp_path / "a", seed=1)
    other = {"split_sha256": {"train": "aaa", "val": "bbb", "test": "another"}}
    write_run(tmp_path / "b", seed=2, protocol=other)
    board = ranked(tmp_path)
    assert board.metrics == ("val/miou",) and len(board.rows[0].runs) == 2
    made(f"runs={tmp_path}", "latency=0")
    text = (tmp_path / "leaderboard.md").read_text()
    assert "test/miou is not shown" in text and "- split_sha256: val bbb\n" in text
    assert len(boards(read_runs([tmp_path]), "test/miou")) == 2
    write_run(tmp_path / "one" / "c", seed=3, protocol=other)
    shown = ranked(tmp_path / "one")
    assert shown.metrics == ("val/miou", "test/miou")
    assert shown.protocol["split_sha256"] == {"val": "bbb", "test": "another"}


def test_data_sets_are_the_same_if_their_paths_lead_to_one_folder(tmp_path: Path) -> None:
    top, home = tmp_path / "runs", tmp_path / "home"
    (home / "voc").mkdir(parents=True)
    roots = {"whole": str(home / "voc"), "below": "voc", "round": str(home / ".." / "home" / "voc")}
    for seed, (name, root) in enumerate(roots.items()):
        data = {"name": "voc", "root": root, "download": seed == 1}
        kept_by_hydra(write_run(top / name, seed=seed, data=data, dataset=data), home)
    board = ranked(top)
    assert board.columns == () and len(board.rows[0].runs) == 3
    elsewhere = {"name": "voc", "root": "voc", "download": False}
    kept_by_hydra(write_run(top / "elsewhere", data=elsewhere, dataset=elsewhere), tmp_path)
    assert len(boards(read_runs([top]), "val/miou")) == 2


def test_a_board_names_entries_that_only_other_boards_have(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_run(tmp_path / f"a{seed}", seed=seed)
    write_run(tmp_path / "b", data={"noise": [3]})
    made(f"runs={tmp_path}", "latency=0")
    text = (tmp_path / "leaderboard.md").read_text()
    assert "## Board 1: without data noise\n" in text and "## Board 2: data noise 3\n" in text
