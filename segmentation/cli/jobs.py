"""The jobs of one command: alone, or the many of a sweep, where one that fails stops no other."""

import math
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from segmentation.cli.messages import explain
from segmentation.cli.script import Gather, Job


class Jobs:
    """Calls `job` as Hydra's task function.

    In a sweep a failure is told at once on stderr and kept in the job's folder as `error.txt`; the job's value
    is nan, and `status` is what the command is to end with. A single run's failure is raised; `sweeping` tells
    the two apart once a job has begun.
    `gather` gets the folder that holds all results, after every job; the text that it returns is for the end.
    """

    def __init__(self, job: Job, gather: Gather | None, *, quiet: bool) -> None:
        self.status = 0
        self.sweeping = False
        self._job = job
        self._gather = gather
        self._quiet = quiet
        self._process = os.getpid()
        self._count = 0
        self._failures: list[str] = []
        self._gathered = ""

    def __call__(self, composed: DictConfig) -> float:
        """The job's value for one composed config."""
        about = HydraConfig.get()
        folder = Path(about.runtime.output_dir)
        self.sweeping = about.mode is not RunMode.RUN
        self._count += 1
        if self.sweeping:
            value = self._attempt(composed, folder, _name(about.job.num, about.overrides.task))
        else:
            value = self._call(composed, folder)
        if self._gather is not None:
            self._gathered = self._gather(Path(about.sweep.dir).absolute() if self.sweeping else folder)
        return value

    def tell(self) -> None:
        """Says what the jobs came to together: what was gathered, and which failed."""
        if self._gathered:
            print(self._gathered, flush=True)  # noqa: T201
        if self._failures:
            lines = "".join(f"  {failure}\n" for failure in self._failures)
            sys.stderr.write(f"{len(self._failures)} of {self._count} jobs failed:\n{lines}")

    def _attempt(self, composed: DictConfig, folder: Path, name: str) -> float:
        error_file = folder / "error.txt"
        try:
            value = self._call(composed, folder)
        except Exception as error:
            message = explain(error) if self._quiet else None
            reason = message or "".join(traceback.format_exception(error)).rstrip()
            error_file.write_text(f"{reason}\n")
            sys.stderr.write(f"error: {name}: {reason}\n")
            if os.getpid() != self._process:
                # A launcher's own process: what is noted here would be lost, the exception is carried home.
                raise
            self._failures.append(f"{name}: {reason.splitlines()[-1]}")
            self.status = 1 if message is None or self.status == 1 else 2
            return math.nan
        error_file.unlink(missing_ok=True)
        return value

    def _call(self, composed: DictConfig, folder: Path) -> float:
        config = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
        assert isinstance(config, dict)
        return self._job({str(key): value for key, value in config.items()}, folder)


def _name(number: int, overrides: Sequence[str]) -> str:
    # What was typed as it stands is the same in every job.
    swept = [override for override in overrides if override not in sys.argv] or overrides
    return f"job {number} ({' '.join(swept)})"
