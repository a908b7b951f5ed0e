"""The pages, and the commands and blocks of Python that they show."""

import re
from pathlib import Path

from conftest import ROOT

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^(?:python [\w/]+\.py|segmentation \w+)( .*)?$")

NAMES = {"inspect_data": "inspect", "select_images": "select"}
"""Scripts whose configs have another name."""


def blocks(path: Path, *languages: str) -> list[str]:
    """The fenced blocks of a page in these languages; "" is none."""
    return [text for language, text in _BLOCK.findall(path.read_text()) if language in languages]


def commands(path: Path) -> list[str]:
    """The commands of this project that a page shows, without comments, a line each."""
    text = "\n".join(blocks(path, "", "bash")).replace("\\\n", " ")
    lines = (re.sub(r"\s+#.*", "", line).strip() for line in text.splitlines())
    return [re.sub(r" {2,}", " ", line) for line in lines if _COMMAND.match(line)]


def shown() -> list[str]:
    """The commands of all pages, each once."""
    return list(dict.fromkeys(command for path in DOCUMENTS for command in commands(path)))
