"""What became of the jobs of a sweep, written down by whichever process ran them."""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Outcome = Literal["ran", "went on", "finished before", "failed"]


@dataclass(frozen=True)
class Entry:
    """A job by its name; `status` is the exit status that it asks for, `reason` why it failed."""

    name: str
    outcome: Outcome
    status: int = 0
    reason: str = ""


class Ledger:
    """A file in the sweep's folder, a line an entry: a launcher's processes share nothing else with the command."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / ".jobs"

    def open(self) -> None:
        """Begins with no entry."""
        self._path.write_text("")

    def add(self, entry: Entry) -> None:
        """Writes the entry down, in one go: several processes may do so at once."""
        with self._path.open("a") as file:
            file.write(json.dumps(asdict(entry)) + "\n")

    def close(self) -> list[Entry]:
        """All entries; the file is gone."""
        entries = [Entry(**json.loads(line)) for line in self._path.read_text().splitlines()]
        self._path.unlink()
        return entries


def summary(entries: list[Entry]) -> str:
    """A line on how many jobs came to what."""
    counts = Counter(entry.outcome for entry in entries)
    return f"{len(entries)} jobs: " + ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
