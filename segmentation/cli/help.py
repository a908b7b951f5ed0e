"""`--help`, written for people and gathered from the config files, so that it cannot lag behind them.

It reads a handful of small text files and imports nothing heavy: it answers at once.
"""

import inspect
import re
import textwrap
from collections.abc import Collection
from pathlib import Path

from segmentation.cli.foreign import CHOICES, shared_options

_OPTION = re.compile(r"^(?P<indent> *)(?P<key>\w+): *(?P<value>.*?) +# (?P<why>.*)$")
_WIDTH = 110


def help_text(script: str, about: str, conf: Path, config_name: str) -> str:
    """What the command does (its docstring, examples included), its groups with their options, its own options."""
    lines = (conf / f"{config_name}.yaml").read_text().splitlines()
    groups = [match[1] for line in lines if (match := re.match(r"  - (\w+): ", line))]
    shared = shared_options(conf, config_name)
    return "\n".join(
        [
            f"Usage: python {script} [GROUP=OPTION ...] [KEY=VALUE ...]",
            "",
            inspect.cleandoc(about),
            "",
            *_groups(conf, groups, shared),
            "Options (KEY=VALUE; default):",
            *_options(lines),
            "",
            "More: -m runs every combination of comma-separated values; --cfg job shows the composed config;",
            "      --hydra-help lists Hydra's own flags"
            + (
                "; trainer.KEY=VALUE takes Lightning's own names."
                if "trainer" in {*groups} - {*shared}
                else "."
            ),
        ]
    )


def _groups(conf: Path, groups: list[str], shared: Collection[str]) -> list[str]:
    heading = "Groups (choose an option by name; its file in conf/ says what each value is for):"
    return [heading, *(_group(conf, group, group in shared) for group in groups), ""] if groups else []


def _group(conf: Path, group: str, is_shared: bool) -> str:
    names = sorted(CHOICES[group] if is_shared else (path.stem for path in (conf / group).glob("*.yaml")))
    text = textwrap.wrap(" ".join(names), _WIDTH - 17) or ["-"]
    return f"  {group:13}  " + f"\n{'':17}".join(text)


def _options(lines: list[str]) -> list[str]:
    described, section = [], ""
    for line in lines:
        if header := re.match(r"^(\w+):$", line):
            section = header[1]
        if not (match := _OPTION.match(line)):
            continue
        key = f"{section}.{match['key']}" if match["indent"] else match["key"]
        why = textwrap.wrap(match["why"], _WIDTH - 32)
        described.append(f"  {key + '=' + match['value']:28}  " + f"\n{'':32}".join(why))
    return described
