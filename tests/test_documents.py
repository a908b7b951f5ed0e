"""README and docs: links lead somewhere, what is shown exists, and the site is whole and needs no network."""

import re
import shutil
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import pytest
from conftest import CONF, ROOT
from documents import DOCUMENTS

from segmentation.data.findings import KINDS

sys.path.insert(0, str(ROOT / "docs"))  # what pages take from the code
pytest.importorskip("markdown", reason="docs/from_the_code.py extends it: pip install '.[docs]'")
from from_the_code import choices, messages, read_choice

_LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)")
_CODE = re.compile(r"(?<!`)`([^`\n]+)`")
_OPTION = re.compile(r"(?:^|\s)([a-z_]+(?:\.[a-z_0-9]+)+)=")


def _anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target, anchor in _LINK.findall(path.read_text()):
        file = path.parent / target if target else path
        assert file.exists(), target
        assert not anchor or anchor in _anchors(file), f"{target}#{anchor}"


def test_options_named_in_the_text_exist() -> None:
    """`data.size=[512,512]`, also in tables: on the pages about other tools in the columns about this one."""
    known = {option.name for file in CONF.glob("**/*.yaml") for option in read_choice(file).options}
    known.add("backbone.name")  # which the page gives as the choice
    for path in DOCUMENTS:
        if path.name in ("CHANGELOG.md", "extending.md"):  # what was once, and what is added
            continue
        for line in path.read_text().splitlines():
            ours = line.split("|", 2)[2] if path.stem.startswith("from_") and line[:1] == "|" else line
            for code in _CODE.findall(ours):
                named = {name for name in _OPTION.findall(code) if not name.startswith("hydra.")}
                assert named <= known, f"{path.name}: {line}"


def test_every_option_is_on_the_page_with_its_reason() -> None:
    """The reason stands at the option, in a file that several choices share, or is that of the choice."""
    page = (ROOT / "docs" / "options.md").read_text()
    groups = {
        f"conf/{folder.name}" for folder in CONF.iterdir() if folder.is_dir() and folder.name != "hydra"
    }
    marked = re.findall(r"<!-- (conf/\S+) -->", page)
    assert set(marked) == groups | {f"conf/{file.name}" for file in CONF.glob("*.yaml")}
    lines = "\n".join(line for place in marked for line in choices(ROOT / place))
    read = [read_choice(file) for place in marked for file in _files(ROOT / place)]
    reasons = {option.name for choice in read for option in choice.options if option.why}
    for choice in read:
        for option in choice.options:
            assert f"`{option.name}={option.default}`" in lines
            assert option.name in reasons or choice.about, option.name


def _files(place: Path) -> list[Path]:
    return [*place.glob("*.yaml")] if place.is_dir() else [place]


def test_every_message_is_on_the_page() -> None:
    page = (ROOT / "docs" / "errors.md").read_text()
    places = [
        ROOT / place for marker in re.findall(r"<!-- messages: (.+) -->", page) for place in marker.split()
    ]
    assert all(place.exists() for place in places)
    everywhere = sorted(messages(ROOT / "segmentation"))
    assert sorted(message for place in places for message in messages(place)) == everywhere
    assert len(everywhere) > 500
    assert re.findall(r"^\| `([\w-]+)` \|", page, re.MULTILINE) == list(KINDS)


def test_every_layout_has_a_picture_of_its_folder() -> None:
    sections = (ROOT / "docs" / "data.md").read_text().split("\n### ")[1:]
    drawn = {
        name for section in sections if "── " in section for name in _CODE.findall(section.split("\n")[0])
    }
    layouts = {path.stem for path in (CONF / "dataset").glob("[!_]*.yaml")}
    assert drawn == layouts - {"auto", "camvid", "mix", "shapes", "shapes_binary"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `make docs` builds it."""
    pytest.importorskip("zensical", reason="it builds the site: pip install '.[docs]'")
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("docs", "conf", "segmentation"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "zensical.toml", folder)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    environment = {"PYTHONPATH": "docs", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "No issues found" in done.stderr, done.stdout + done.stderr
    return folder / "site"


class _Fetched(HTMLParser):
    """What a browser fetches when it opens the page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        if tag == "link" and given.get("rel") not in ("canonical", "prev", "next"):
            self.addresses.append(given["href"])
        elif tag in ("script", "img", "iframe", "source", "video", "object", "embed"):
            self.addresses.append(given.get("src") or given.get("data") or "")


def test_the_site_is_whole_and_fetches_nothing(site: Path) -> None:
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert {path.stem for path in site.glob("*.html")} == {*pages, "404"}
    navigation = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]
    assert set(re.findall(r"(\w+)\.md", str(navigation))) == pages
    for path in site.glob("*.html"):
        text = path.read_text()
        fetched = _Fetched()
        fetched.feed(text)
        assert not [each for each in fetched.addresses if re.match(r"(https?:)?//", each)], path.name
        assert "@import" not in text and "mermaid" not in text  # whose script the theme would fetch
        assert "<!-- conf/" not in text and "<!-- messages" not in text
    for sheet in site.rglob("*.css"):
        assert not re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//", sheet.read_text()), sheet.name
    assert "loss.gamma=2.0" in (site / "options.html").read_text()
    assert "The training diverged" in (site / "errors.html").read_text()
