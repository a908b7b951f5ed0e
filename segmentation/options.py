"""From a name and plain options to a thing of ours, with messages that a user can act on."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from segmentation.errors import UserError, closest

Thing = TypeVar("Thing")

_ANY_CLASS = ConfigDict(arbitrary_types_allowed=True)


def create(
    group: str, table: Mapping[str, Callable[..., Thing]], name: str, /, *given: Any, **options: Any
) -> Thing:
    """`table[name](*given, **options)`: names come from our tables alone, never from a dotted path.

    `group` is the config group, for messages: `loss.gama` rather than `gama`.

    Raises `UserError` for a name that the table does not hold and for what `call` refuses.
    """
    if not isinstance(name, str) or name not in table:
        raise UserError(f"{group}={name} is unknown.{closest(name, table)}")
    return call(group, table[name], *given, **options)


def call(group: str, function: Callable[..., Thing], /, *given: Any, **options: Any) -> Thing:
    """`function(*given, **options)` after holding the options against its signature.

    Raises `UserError` for an option that the function does not have, one that is missing, or a value that
    is not of the annotated type ("3" passes as a number, "abc" does not).
    """
    parameters = inspect.signature(function).parameters
    choices = [name for name, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]
    choices = choices or [name for name in parameters][len(given) :]
    hints = get_type_hints(function.__init__ if inspect.isclass(function) else function)
    checked = {}
    for option, value in options.items():
        if option not in choices:
            raise UserError(f"{group} has no option '{option}'.{closest(option, choices)}")
        checked[option] = _convert(f"{group}.{option}", value, hints.get(option, Any))
    missing = [
        name
        for name in choices
        if parameters[name].default is inspect.Parameter.empty and name not in options
    ]
    if missing:
        raise UserError(f"{group}.{missing[0]} is missing: give {group}.{missing[0]}=VALUE.")
    return function(*given, **checked)


def _convert(where: str, value: Any, hint: Any) -> Any:
    try:
        return TypeAdapter(hint, config=_ANY_CLASS).validate_python(value)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Input ")
        raise UserError(f"{where}={value} is not right: it {reason}.") from None
