"""File names as the shell gives them, in a grammar where = , ( [ and spaces have meanings of their own."""

import sys


def quote_paths(*keys: str) -> None:
    """Quotes the values of these options on the command line, so that any file name may be typed there.

    What is quoted already is left as it is.
    """
    sys.argv[1:] = [_quoted_option(argument, keys) for argument in sys.argv[1:]]


def quoted(text: str) -> str:
    """The text as one value of Hydra's grammar."""
    # In front of a quote a backslash escapes, anywhere else it is itself.
    return "'" + text.replace("'", "\\'") + "'"


def _quoted_option(argument: str, keys: tuple[str, ...]) -> str:
    key, sign, value = argument.partition("=")
    if key not in keys or not value or (value[0] == value[-1] and value[0] in "'\"" and len(value) > 1):
        return argument
    return f"{key}{sign}{quoted(value)}"
