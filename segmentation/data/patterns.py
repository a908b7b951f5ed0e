"""Regular expressions of options, which may be those of a stranger's checkpoint: matched with a time limit."""

import json
import subprocess
import sys
from collections.abc import Sequence

from segmentation.errors import UserError

_SECONDS = 60.0
# Python cannot stop a match within its own process. -I and -S: nothing but the standard library is imported.
_CHILD = """
import json, re, sys
pattern, names = json.load(sys.stdin)
pattern = re.compile(pattern)
matches = map(pattern.search, names)
json.dump([match and ((match[1] or "") if pattern.groups else match[0]) for match in matches], sys.stdout)
"""


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
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"{option}={pattern} takes more than {_SECONDS:.0f} seconds for {len(names)} names: write it without"
            " repeats of what repeats, as in (a+)+."
        ) from error
    found: list[str | None] = json.loads(done.stdout)
    return found
