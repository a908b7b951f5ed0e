"""The commands from Python: `segmentation.train("dataset.root=PATH")`. Their results show themselves in a notebook.

Each runs as the command does, in a process of its own, with the same options, messages and files; what a training or
an evaluation says is printed as it comes.
"""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segmentation.errors import UserError
from segmentation.reading import read_json

if TYPE_CHECKING:
    from segmentation.inference.predictor import Predictor

_RUN, _REPORT, _COMPARISON = "The run folder: ", "The report: ", "Side by side: "
"""How the commands say, at their end, where their results are."""

_CONFIG_FLAGS = ("--config-", "-cd", "-cn", "-cp")
"""The beginnings of Hydra's flags that say where options are read."""

_LARGEST_PICTURE = 2**21  # bytes of a PNG that is shown in a notebook


@dataclass(frozen=True)
class Result:
    """The folder of a training or an evaluation, and its `report.json`."""

    folder: Path
    report: Mapping[str, Any]

    @property
    def metrics(self) -> Mapping[str, Any]:
        """Scores by name, such as `test/miou`; of several checkpoints by name, then by checkpoint."""
        metrics: Mapping[str, Any] = self.report["metrics"]
        return metrics

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(name)}</td><td>{escape(_text(value))}</td></tr>"
            for name, value in self.metrics.items()
        )
        pictures = "".join(map(_picture, (self.folder / name for name in self._pictures)))
        return f"<p><code>{escape(str(self.folder))}</code></p><table>{rows}</table>{pictures}"

    @property
    def _pictures(self) -> tuple[str, ...]:
        return ("confusion.png", "reliability.png")


@dataclass(frozen=True)
class Run(Result):
    """A finished training."""

    @property
    def checkpoint(self) -> Path:
        """The best checkpoint."""
        return self.folder / "checkpoints" / "best.ckpt"

    def load(self) -> "Predictor":
        """The trained model, ready to predict."""
        from segmentation.inference import load

        return load(self.checkpoint)

    @property
    def _pictures(self) -> tuple[str, ...]:
        return ("curves.png", "predictions.png")


@dataclass(frozen=True)
class Findings:
    """What is wrong with a data set: the document of `format=json`, see docs/doctor.md."""

    report: Mapping[str, Any]
    ok: bool

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self.report["findings"])

    def __len__(self) -> int:
        return len(self.report["findings"])

    def _repr_html_(self) -> str:
        rows = "".join(
            "<tr>"
            + "".join(f"<td>{escape(str(finding.get(key, '')))}</td>" for key in ("severity", "id", "text"))
            + "</tr>"
            for finding in self
        )
        return f"<table>{rows}</table>" if rows else "<p>nothing is wrong</p>"


def train(*words: str, **options: Any) -> Run:
    """Train a model: `train("dataset=camvid", "dataset.root=PATH", backbone="resnet18")`.

    `words` are those of the command line, `options` the same by name; a dict sets the keys of a section. Raises
    `UserError` with the command's message where an option or the data are wrong, or the run does not end well.
    """
    folder = Path(_after(_RUN, _run("train", words, options)))
    return Run(folder, read_json(folder / "report.json"))


def evaluate(*words: str, **options: Any) -> Result:
    """Score checkpoints: `evaluate(checkpoint="best.ckpt", split="val")`. Words, options and errors as for `train`."""
    said = _run("evaluate", words, options)
    page = Path(_after(_COMPARISON if any(line.startswith(_COMPARISON) for line in said) else _REPORT, said))
    return Result(page.parent, read_json(page.with_name("report.json")))


def inspect(*words: str, **options: Any) -> Findings:
    """Look for faults in a data set: `inspect("dataset.root=PATH")`. Words, options and errors as for `train`.

    Data of which a training would be wrong are no error here: `ok` is then false.
    """
    command = _command("inspect", words, {**options, "format": "json"})
    done = subprocess.run(command, capture_output=True, text=True, env=_environment(), check=False)
    try:
        return Findings(json.loads(done.stdout), ok=done.returncode == 0)
    except ValueError:
        raise UserError(_message(done.stderr.splitlines())) from None


def _run(name: str, words: tuple[str, ...], options: Mapping[str, Any]) -> list[str]:
    """Runs a command and returns the lines that it prints."""
    said: list[str] = []
    with subprocess.Popen(
        _command(name, words, options),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=_environment(),
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)  # noqa: T201
            said.append(line.rstrip("\n"))
    if process.returncode:
        raise UserError(_message(said))
    return said


def _command(name: str, words: tuple[str, ...], options: Mapping[str, Any]) -> list[str]:
    for word in words:
        if not isinstance(word, str):
            kind = type(word).__name__
            raise UserError(f"{kind} is no option: write 'KEY=VALUE', or name it, as in backbone='resnet18'.")
    flag = next((word for word in words if word.startswith("-") and not word.startswith(_CONFIG_FLAGS)), None)
    if flag is not None:
        raise UserError(f"{flag} is for the command line: here a command runs once, and gives its result.")
    # -P: a file in the working folder must not stand in for a library.
    return [sys.executable, "-P", "-m", "segmentation", name, *words, *_as_words(options)]


def _environment() -> dict[str, str]:
    place = str(Path(__file__).parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (place, os.environ.get("PYTHONPATH"))))}


def _as_words(options: Mapping[str, Any], section: str = "") -> Iterator[str]:
    for key, value in options.items():
        if isinstance(value, Mapping):
            yield from _as_words(value, f"{section}{key}.")
        else:
            yield f"{section}{key}={_value(value)}"


def _value(value: Any) -> str:
    """A value in Hydra's grammar."""
    from segmentation.cli.overrides import quoted

    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_value, value))}]"
    return str(value) if isinstance(value, int | float) else quoted(str(value))


def _after(start: str, said: list[str]) -> str:
    found = next((line for line in reversed(said) if line.startswith(start)), None)
    if found is None:
        raise UserError("The command ended without a result: here it runs once, and no sweep.")
    return found.removeprefix(start)


def _message(said: list[str]) -> str:
    """The command's own message, or its last words."""
    errors = [line.removeprefix("error: ") for line in said if line.startswith("error: ")]
    return (errors or [line for line in said if line.strip()] or ["The command ended without a word."])[-1]


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(item)}" for name, item in value.items())
    return f"{value:.4f}" if isinstance(value, float) else "-" if value is None else str(value)


def _picture(path: Path) -> str:
    if not path.is_file() or path.stat().st_size > _LARGEST_PICTURE:
        return ""
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{escape(path.stem)}" src="data:image/png;base64,{data}">'
