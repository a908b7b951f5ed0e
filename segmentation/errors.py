"""What a user can cause, said in one short message."""

from collections.abc import Iterable
from difflib import get_close_matches

_FEW = 20


class UserError(Exception):
    """A mistake that the user can mend: the message says what is wrong, where, and what to do.

    Scripts print the message alone and end with exit status 2. Every other exception is our own
    fault and keeps its traceback.
    """


def closest(wrong: str, choices: Iterable[str]) -> str:
    """The end of an error message: the nearest right choice if one is near, and all of them if they are few."""
    names = sorted(str(choice) for choice in choices)
    near = get_close_matches(str(wrong), names, n=1, cutoff=0.6)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return hint if near and len(names) > _FEW else f"{hint} Choose from: {', '.join(names)}."
