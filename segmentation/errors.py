"""`UserError`, the exception for mistakes of the user, and suggestions for misspelt names."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from difflib import get_close_matches

_FEW = 20  # more choices than these are not listed after a suggestion
_LONGEST = 600  # characters of a message
_LONGEST_NAME = 100  # characters that are compared with the choices, which takes time


class UserError(Exception):
    """A mistake that the user can correct: the message says what is wrong, where, and what to do.

    Scripts print only the message and end with exit status 2. Every other exception is a bug of this package and
    keeps its traceback. Whatever the message quotes from files and options, it is `one_line`.

    `kind` is the fault's id in the report of inspect_data.py where it lies in the data, `names` are the samples that
    have it if it is of several, and `values` the wrong values in a file.
    """

    kind = ""

    def __init__(
        self, message: str, *, kind: str = "", names: Sequence[str] = (), values: Sequence[int] = ()
    ) -> None:
        super().__init__(one_line(message))
        self.kind = kind or self.kind
        self.names, self.values = names, values


_kept: ContextVar[list[UserError] | None] = ContextVar("kept", default=None)


def refuse(error: UserError) -> None:
    """Raises an error that the caller could pass over; inside `errors_kept` it is kept, and the caller goes on."""
    kept = _kept.get()
    if kept is None:
        raise error
    kept.append(error)


@contextmanager
def errors_kept() -> Iterator[list[UserError]]:
    """Keeps the errors of `refuse` in a list, for who looks for all faults of the data at once."""
    kept: list[UserError] = []
    token = _kept.set(kept)
    try:
        yield kept
    finally:
        _kept.reset(token)


def one_line(text: str, longest: int = _LONGEST) -> str:
    """The text as `printable`, without its middle where it is longer than `longest` characters."""
    if len(text) > longest:
        text = f"{text[: longest // 2]} [...] {text[-longest // 2 :]}"
    return printable(text)


def printable(text: str) -> str:
    r"""The text with line ends, control characters and other invisible ones escaped (`\n`, `\x1b`).

    Names of files and classes may hold them, and a terminal would obey.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def closest(wrong: str, choices: Iterable[str]) -> str:
    """The end of an error message: the closest choice if one is similar, and all choices if they are few."""
    if not (names := sorted(str(choice) for choice in choices)):
        return ""
    near = get_close_matches(str(wrong)[:_LONGEST_NAME], names, n=1, cutoff=0.6)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return hint if near and len(names) > _FEW else f"{hint} Choose from: {', '.join(names)}."
