"""What must be typed beside a command's overrides to get the options of a run that had more than these."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from segmentation.cli.paths import quoted
from segmentation.options import flat

_OF_A_SWEEP = ("callbacks.pruning.", "resume")
"""Options that say how a run stands among others, not what it is: alone it is compared with none."""

_PLAIN = re.compile(r"[A-Za-z_][\w./-]*")
_WORDS = {"null", "true", "false", "nan", "inf"}


def more_overrides(run: Path, composed: Mapping[str, Any]) -> list[str]:
    """Overrides that make the `composed` config that of the run folder `run`; none where it has no config."""
    try:
        kept = yaml.safe_load((run / "config.yaml").read_text())
    except (OSError, yaml.YAMLError):
        return []
    if not isinstance(kept, dict):
        return []
    before, now = flat(kept), flat(composed)
    keys = [key for key in sorted(before.keys() | now.keys()) if not key.startswith(_OF_A_SWEEP)]
    changed = [
        f"{key}={spelled(before[key])}"
        for key in keys
        if key in before and key in now and before[key] != now[key]
    ]
    added = [f"+{key}={spelled(before[key])}" for key in keys if key not in now]
    return [*changed, *added, *(f"~{key}" for key in keys if key not in before)]


def spelled(value: Any) -> str:
    """A value as Hydra's grammar has it: numbers, words, null, lists and mappings."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) and value.lower() not in _WORDS else quoted(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{spelled(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(spelled, value)) + "]"
    return str(value)
