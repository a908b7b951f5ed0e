"""Options checked against the signature of what gets them: names, types and ranges, with messages for users.

Those that are regular expressions are matched with a time limit.
"""

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from segmentation.errors import UserError, closest
from segmentation.ranges import RANGES

Thing = TypeVar("Thing")

_ANY_CLASS = ConfigDict(arbitrary_types_allowed=True)

_MATCH_SECONDS = 60.0
# A pattern may be that of a stranger's checkpoint, and Python cannot stop a match within its own process.
# -I and -S: nothing but the standard library is imported.
_CHILD = """
import json, re, sys
pattern, names = json.load(sys.stdin)
pattern = re.compile(pattern)
matches = map(pattern.search, names)
json.dump([match and ((match[1] or "") if pattern.groups else match[0]) for match in matches], sys.stdout)
"""


def create(
    group: str, table: Mapping[str, Callable[..., Thing]], name: str, /, *given: Any, **options: Any
) -> Thing:
    """`table[name](*given, **options)`: names come from our tables alone, never from a dotted path.

    `group` is the config group, for messages: `loss.gama` rather than `gama`.

    Raises `UserError` for a name that the table does not hold and for what `call` refuses.
    """
    if not isinstance(name, str) or name not in table:
        raise UserError(f"{group}={name} is unknown.{closest(name, table)}", kind="option")
    return call(group, table[name], *given, **options)


def call(group: str, function: Callable[..., Thing], /, *given: Any, **options: Any) -> Thing:
    """`function(*given, **options)` after `checked` and `check_ranges`."""
    converted = checked(group, function, options)
    check_ranges({f"{group}.{option}": value for option, value in converted.items()})
    return function(*given, **converted)


def checked(group: str, function: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options for the keyword-only parameters of `function`, converted to their annotated types.

    Those that a `functools.partial` has set already are ours: users cannot set them.

    Raises `UserError` for an option that the function does not have, one that is missing, or a value that
    its annotation does not allow ("3" passes as a number, "abc" does not).
    """
    own: Mapping[str, Any] = {}
    if isinstance(function, partial):
        own, function = function.keywords, function.func
    parameters = inspect.signature(function).parameters
    keywords = [name for name, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]
    choices = [name for name in keywords if name not in own]
    hints = get_type_hints(function.__init__ if inspect.isclass(function) else function, include_extras=True)
    prefix = f"{group}." if group else ""
    for option in options:
        if option not in choices:
            raise UserError(
                f"There is no option '{prefix}{option}'.{closest(option, choices)}", kind="option"
            )
    for name in choices:
        if parameters[name].default is inspect.Parameter.empty and name not in options:
            raise UserError(f"{prefix}{name} is missing: give {prefix}{name}=VALUE.", kind="option")
    return {
        option: _convert(f"{prefix}{option}", value, hints.get(option, Any))
        for option, value in options.items()
    }


def check_ranges(config: Mapping[str, Any]) -> None:
    """Raises `UserError` for an option outside of its range in `RANGES`."""
    for key, value in flat(config).items():
        if key in RANGES:
            _convert(key, value, RANGES[key])


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Sections -> `section.option`."""
    options: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            options |= flat(value, f"{prefix}{key}.")
        else:
            options[f"{prefix}{key}"] = value
    return options


_PLAIN = {
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid boolean": "true or false",
    "a valid tuple": "a list",
}
"""Words of pydantic's messages, and plain ones."""
_SIZES = {"missing": "has too few values", "too_long": "has too many values"}
"""What is said of lists by the type of pydantic's error, which speaks of tuples."""


def _convert(where: str, value: Any, hint: Any) -> Any:
    # Dataclasses bring a configuration of their own.
    config = None if is_dataclass(hint) else _ANY_CLASS
    try:
        converted = TypeAdapter(hint, config=config).validate_python(value)
        # pathlib's own would fail for a ~ that is nobody's home.
        return Path(os.path.expanduser(converted)) if isinstance(converted, Path) else converted  # noqa: PTH111
    except ValidationError as error:
        # Of "text, or a list" the other kind is not what is wrong with a list.
        faults = [
            fault for fault in error.errors() if fault["type"] != "string_type" or not isinstance(value, list)
        ]
        first = (faults or error.errors())[0]
        if first["type"] == "literal_error":
            choices = re.findall(r"'([^']*)'", first["ctx"]["expected"])
            raise UserError(
                f"{where}={value} is unknown.{closest(str(value), choices)}", kind="option"
            ) from None
        reason = first["msg"].removeprefix("Input ").removeprefix("List ").removeprefix("Value error, ")
        reason = reason.replace("an instance of Sequence", "a list").partition(", unable to ")[0]
        reason = reason.partition(" or an instance of ")[0]  # of a class of ours
        for theirs, plain in _PLAIN.items():
            reason = reason.replace(theirs, plain)
        reason = _SIZES.get(first["type"], reason)
        raise UserError(f"{where}={value} is not right: it {reason}.", kind="option") from None


def find_in_names(pattern: str, names: Sequence[str], option: str) -> list[str | None]:
    """What a regular expression finds in each name: its first group, else the whole match; None where there is none.

    Raises `UserError`, which names the `option`, where that takes more than a minute: `(a+)+b` takes exponential time.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _CHILD],
            input=json.dumps([pattern, list(names)]),
            capture_output=True,
            text=True,
            check=True,
            timeout=_MATCH_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"{option}={pattern} takes more than {_MATCH_SECONDS:.0f} seconds for {len(names)} names: write it without"
            " repeats of what repeats, as in (a+)+."
        ) from error
    found: list[str | None] = json.loads(done.stdout)
    return found
