"""README and docs: links lead somewhere, and the commands shown there exist with these options."""

import re
import shlex
from pathlib import Path

import pytest
from conftest import ROOT

from segmentation.cli import compose

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
_LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)")
_COMMAND = re.compile(r"^python (\w+)\.py (.*?)(?: +#.*)?$", re.MULTILINE)


def _commands(path: Path) -> list[tuple[str, str]]:
    """(script, arguments) of the commands for one run."""
    blocks = "\n".join(re.findall(r"```\n(.*?)```", path.read_text(), re.DOTALL)).replace("\\\n", " ")
    found = [
        (script, arguments)
        for script, arguments in _COMMAND.findall(blocks)
        if (ROOT / f"{script}.py").exists()
    ]
    return [command for command in found if not re.search(r"(^| )-| \.\.\.$", command[1])]


def _anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target, anchor in _LINK.findall(path.read_text()):
        file = path.parent / target if target else path
        assert file.exists(), target
        assert not anchor or anchor in _anchors(file), f"{target}#{anchor}"


@pytest.mark.parametrize(
    ("script", "arguments"), sorted({command for path in DOCUMENTS for command in _commands(path)})
)
def test_a_command_composes(script: str, arguments: str) -> None:
    words = [word.replace("=...", "=PATH") for word in shlex.split(arguments)]
    if (
        script == "train"
        and "dataset.root=PATH" in words
        and not any(word.startswith("dataset=") for word in words)
    ):
        words.insert(0, "dataset=auto")  # which a root alone means
    assert compose({"inspect_data": "inspect", "select_images": "select"}.get(script, script), *words)
