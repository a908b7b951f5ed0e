"""`UserError`, the exception for mistakes of the user, and suggestions for misspelt names."""

from collections.abc import Iterable
from difflib import get_close_matches

_FEW = 20  # more choices than these are not listed after a suggestion


class UserError(Exception):
    """A mistake that the user can correct: the message says what is wrong, where, and what to do.

    Scripts print only the message and end with exit status 2. Every other exception is a bug of this package and
    keeps its traceback.
    """


def closest(wrong: str, choices: Iterable[str]) -> str:
    """The end of an error message: the closest choice if one is similar, and all choices if they are few."""
    names = sorted(str(choice) for choice in choices)
    near = get_close_matches(str(wrong), names, n=1, cutoff=0.6)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return hint if near and len(names) > _FEW else f"{hint} Choose from: {', '.join(names)}."
