"""leaderboard.html: its source, and the page in a real browser."""

import html
import json
import re
from pathlib import Path

import pytest
from browser import browse, needs_browser
from made_runs import write_run

from segmentation.leaderboard.boards import boards
from segmentation.leaderboard.page import render
from segmentation.leaderboard.runs import read_runs

HOSTILE = '"><img src=x onerror="document.title=1"><script>document.title="owned"</script>'


@pytest.fixture
def page(tmp_path: Path) -> Path:
    top = tmp_path / "runs"
    for index, (backbone, score, parameters) in enumerate(
        [("b10", 0.7, 30), ("b9", 0.6, 10), (HOSTILE, 0.65, 20), ("b2", 0.5, 15), ("none", None, 5)]
    ):
        for seed in (1, 2):
            spread = 0.01 * seed
            write_run(
                top / f"{index}_{seed}",
                backbone=backbone,
                miou=None if score is None else score + spread,
                parameters=parameters * 1_000_000,
                seed=seed,
            )
    write_run(top / "apart", protocol={"scored_at": HOSTILE})
    write_run(top / "failed", finished=False)
    (top / "failed" / "error.txt").write_text(HOSTILE)
    runs = read_runs([top])
    text = render(boards(runs, "val/miou"), [run for run in runs if run.report is None], "", HOSTILE)
    (tmp_path / "leaderboard.html").write_text(text)
    return tmp_path / "leaderboard.html"


def test_the_page_is_one_file_without_requests_or_foreign_scripts(page: Path) -> None:
    text = page.read_text()
    assert HOSTILE not in text
    assert len(re.findall("<script", text)) == 1
    assert not re.search(r"<img|<link [^>]*href=\"(?!data:)|@import|https?://", text)
    assert ">nan<" not in text.lower()
    assert len(re.findall('<section class="board"', text)) == 2


_PROBE = """
const table = document.querySelector("table.sortable");
const column = (index) => [...table.tBodies[0].rows].map((row) => row.cells[index].dataset.value);
const heads = [...table.querySelectorAll("thead button")];
const seen = {ranks: column(0)};
heads[1].click();
seen.words = column(1);
heads[2].click();
seen.scores = column(2);
heads[2].click();
seen.turned = column(2);
seen.dots = document.querySelectorAll("g.dot").length;
seen.front = [...document.querySelectorAll("g.dot.front")].map((dot) => dot.dataset.rank).sort();
seen.wide = document.documentElement.scrollWidth;
seen.view = innerWidth;
seen.paper = getComputedStyle(document.body).backgroundColor;
document.title = JSON.stringify(seen);
"""


@needs_browser
def test_a_browser_shows_the_page_without_console_messages(page: Path, tmp_path: Path) -> None:
    document, console = browse(page, tmp_path)
    assert console == []
    title = re.search(r"<title>(.*?)</title>", document, re.DOTALL)
    assert title is not None and html.unescape(title[1]) == f"{HOSTILE}: leaderboard"


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_columns_sort_and_the_page_fits_a_phone(scheme: str, page: Path, tmp_path: Path) -> None:
    # The page's content policy would block the probe.
    page.write_text(re.sub(r"<meta http-equiv.*?>", "", page.read_text()) + f"<script>{_PROBE}</script>")
    number = {"dark": 0, "light": 1}[scheme]
    document, _ = browse(
        page, tmp_path, "--window-size=390,844", f"--blink-settings=preferredColorScheme={number}"
    )
    title = re.search(r"<title>(.*?)</title>", document, re.DOTALL)
    assert title is not None
    seen = json.loads(html.unescape(title[1]))
    assert seen["ranks"] == ["1", "2", "3", "4", "5"]
    assert sorted(seen["words"]) == sorted(["b10", "b9", "b2", "none", HOSTILE])
    assert [word for word in seen["words"] if word != HOSTILE] == ["b10", "b2", "b9", "none"]
    numbers = [float(value) for value in seen["scores"] if value]
    assert numbers == sorted(numbers, reverse=True) and seen["scores"][-1] == ""
    assert seen["turned"] == [*reversed(seen["scores"][:-1]), ""]
    assert seen["dots"] == 4
    # By parameters: 10 M at 0.6, 20 M at 0.65, 30 M at 0.7; 15 M at 0.5 is beaten.
    assert seen["front"] == ["1", "2", "3"]
    assert seen["wide"] <= seen["view"]
    red, green, blue = map(int, re.findall(r"\d+", seen["paper"])[:3])
    assert (red + green + blue > 600) == (scheme == "light")


def test_equal_points_share_a_label(tmp_path: Path) -> None:
    for name, score in (("a", 0.7), ("b", 0.7), ("c", 0.2), ("d", 0.7)):
        write_run(tmp_path / name, backbone=name, miou=score)
    page = render(boards(read_runs([tmp_path]), "val/miou"), [], "", "equal")
    assert page.count(">1-3</text>") == 1 and page.count(">4</text>") == 1
