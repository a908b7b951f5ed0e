"""Messages of a run, on the console and in run.log: `conf/hydra/job_logging` names these classes."""

import logging
from typing import Any

from segmentation.errors import printable
from segmentation.writing import no_link


class PrintableFormatter(logging.Formatter):
    """Escapes what a terminal would obey: file and class names may hold any character."""

    def format(self, record: logging.LogRecord) -> str:
        """The record in lines of printable characters."""
        return "\n".join(map(printable, super().format(record).split("\n")))


class LogFile(logging.FileHandler):
    """Appends to a file, and refuses a symbolic link in its place."""

    def _open(self) -> Any:
        return open(self.baseFilename, self.mode, encoding="utf-8", errors="replace", opener=no_link)
