"""What became of the jobs of a sweep, written down by whichever process ran them."""

import json
import signal
import sys
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

Outcome = Literal["begun", "ran", "went on", "finished before", "cut off", "failed"]

_KILLED = 128 + signal.SIGKILL  # what a shell says of it


@dataclass(frozen=True)
class Entry:
    """A job by its name; `status` is the exit status that it asks for, `reason` why it failed."""

    name: str
    outcome: Outcome
    status: int = 0
    reason: str = ""


class Ledger:
    """A file in the sweep's folder, a line an entry: a launcher's processes share nothing else with the command.

    A job has an entry when it begins, and another when it ends.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / ".jobs"
        self._lock = folder / ".jobs.lock"

    def open(self) -> None:
        """Begins with no entry."""
        self._path.write_text("")

    def add(self, entry: Entry) -> None:
        """Writes the entry down; several processes may do so at once, and on a network's disk appending is no unit."""
        from filelock import FileLock

        with FileLock(self._lock), self._path.open("a") as file:
            file.write(json.dumps(asdict(entry)) + "\n")

    def entries(self) -> list[Entry]:
        """The latest entry of each job, in the order in which they ended."""
        latest: dict[str, Entry] = {}
        text = self._path.read_text() if self._path.exists() else ""
        for line in text.splitlines(keepends=True):
            if line.endswith("\n"):  # the last one may be on its way
                entry = Entry(**json.loads(line))
                latest.pop(entry.name, None)
                latest[entry.name] = entry
        return list(latest.values())

    def close(self) -> list[Entry]:
        """What all jobs came to; the file is gone. One that began and never ended was cut off with its process."""
        entries = [
            replace(entry, outcome="cut off", status=_KILLED) if entry.outcome == "begun" else entry
            for entry in self.entries()
        ]
        self._path.unlink()
        self._lock.unlink(missing_ok=True)
        return entries


def told(entries: list[Entry], folder: Path) -> int:
    """Prints how many jobs of the sweep in `folder` came to what, and which did not finish; gives the exit status."""
    failed, cut_off = (
        [each for each in entries if each.outcome == outcome] for outcome in ("failed", "cut off")
    )
    if entries:
        counts = Counter(entry.outcome for entry in entries)
        listed = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        print(f"{len(entries)} jobs: {listed}, in {folder}", flush=True)  # noqa: T201
    if failed:
        lines = "".join(f"  {entry.name}: {entry.reason}\n" for entry in failed)
        sys.stderr.write(f"{len(failed)} of {len(entries)} jobs failed:\n{lines}")
    if cut_off:
        names = ", ".join(entry.name for entry in cut_off)
        print(f"cut off: {names}. The same command goes on where it stopped.", flush=True)  # noqa: T201
    # A fault of ours tells more than a mistake of the user's, and both more than a signal.
    return min((entry.status for entry in failed + cut_off), default=0)
