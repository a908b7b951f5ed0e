"""What pages of the site take from the code when they are built, so that it cannot go stale: an extension of Markdown.

A line `<!-- conf/loss -->` of a page becomes the choices of that group with their options, `<!-- conf/predict.yaml -->`
the options of that file, and `<!-- messages: segmentation/export -->` the messages for a user's mistakes there.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from markdown import Extension, Markdown
from markdown.preprocessors import Preprocessor

_ROOT = Path(__file__).parents[1]
_MARKER = re.compile(r"<!-- (conf/\S+|messages: .+) -->")
_OPTION = re.compile(r"(?P<indent> *)(?P<key>[\w./]+):(?P<value>.*?)(?: +# ?(?P<why>.*)| *)")
_NO_OPTION = re.compile(r"(hydra\b.*|(\w+\.)?(defaults|name|source)|dataset\.names\..*)")
"""Hydra's, or the choice itself."""


class Option(NamedTuple):
    """As it is typed, with its default and what conf/ says of it."""

    name: str
    default: str
    why: str


class Choice(NamedTuple):
    """A file of conf/: what its first lines say, and its options."""

    about: str
    options: list[Option]


def read_choice(path: Path) -> Choice:
    """The comment at the top is about the choice, others are about the option that follows or stands in their line."""
    group = path.parent.name
    lines = path.read_text().splitlines()
    typed_alone = "# @package _global_" in lines or group == "conf"
    about, options = "", []
    above: list[str] = []
    sections: list[tuple[int, str]] = [] if typed_alone else [(-1, group)]
    for line in lines:
        if line.startswith("# @"):
            continue
        if line.lstrip().startswith("# "):
            above.append(line.lstrip()[2:])
            continue
        if found := _OPTION.fullmatch(line):
            depth, value, why = len(found["indent"]), found["value"].strip(), found["why"] or ""
            sections = [section for section in sections if section[0] < depth]
            name = ".".join([*(key for _, key in sections), found["key"]])
            if not about and not options:
                own = not why and value and not _NO_OPTION.fullmatch(found["key"]) and len(above) > 1
                about, above = (above[0], above[1:]) if own else (" ".join(above), [])
            if not value:
                sections.append((depth, found["key"]))
            elif found["key"] == "name" and why:
                about = f"{why}. {about}" if about else why
            elif not _NO_OPTION.fullmatch(name):
                options.append(Option(name, value, why or " ".join(above)))
        above = []
    return Choice(about, options)


def choices(place: Path) -> Iterator[str]:
    """A file of conf/ in the words of a page; of a group all choices, first the files with what they share."""
    if place.is_dir():
        for path in sorted(place.glob("*.yaml"), key=lambda path: (path.stem[0] != "_", path.stem)):
            yield from choices(path)
        return
    choice = read_choice(place)
    if place.parent.name != "conf":
        title = "shared" if place.stem[0] == "_" else f"`{place.parent.name}={place.stem}`"
        yield f"**{title}** {_text(choice.about)}\n"
    for option in choice.options:
        yield f"- `{option.name}={option.default}` {_text(option.why)}"
    yield ""


def messages(folder: Path) -> Iterator[tuple[str, str]]:
    """File and text of each `UserError` below; what is filled in when it is raised is an ellipsis."""
    for path in sorted(folder.rglob("*.py")) if folder.is_dir() else [folder]:
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(node, "func", None)
            if isinstance(node, ast.Call) and getattr(name, "id", "") == "UserError" and node.args:
                text = re.sub(r"…(\.?…)+", "…", _written(node.args[0]))
                yield str(path.relative_to(_ROOT)), text


def _written(node: ast.AST) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_written(part) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return "…"


def _text(words: str) -> str:
    """Text in which nothing but `code` is markup."""
    return re.sub(r"([\\*_{}\[\]<>#|])", r"\\\1", words)


def _replaced(what: str) -> Iterator[str]:
    if what.startswith("conf/"):
        yield from choices(_ROOT / what)
        return
    texts = {text for place in what.removeprefix("messages: ").split() for _, text in messages(_ROOT / place)}
    for text in sorted(texts, key=str.lower):
        if len(re.findall(r"\w\w", text)) > 3:  # others are a library's words alone
            yield f"- {_text(text)}"


class _FromTheCode(Preprocessor):
    def run(self, lines: list[str]) -> list[str]:
        page: list[str] = []
        for line in lines:
            marker = _MARKER.fullmatch(line)
            page.extend(_replaced(marker[1]) if marker else [line])
        return page


class FromTheCode(Extension):
    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802
        md.preprocessors.register(_FromTheCode(md), "from_the_code", 100)  # before code blocks are found


def makeExtension(**options: object) -> FromTheCode:  # noqa: N802
    """As Markdown asks for it."""
    return FromTheCode(**options)
