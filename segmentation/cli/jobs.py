"""The jobs of one command: alone, or the many of a sweep, where one that fails stops no other."""

import logging
import math
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from segmentation.cli.folders import own_overrides
from segmentation.cli.job import Gather, Job
from segmentation.cli.ledger import Entry, Ledger, Outcome, told
from segmentation.cli.messages import explain
from segmentation.cli.ranks import follow, is_follower, leading
from segmentation.cli.sweep import Sweep
from segmentation.cli.takeup import held, note, take_up
from segmentation.errors import UserError

log = logging.getLogger(__name__)

Config = dict[str, Any]


class Jobs:
    """Calls `job` as Hydra's task function, also in the processes of a launcher.

    In a sweep a failure is told at once on stderr and kept in the job's folder as `error.txt`. A job with an
    option `resume` is not run again where it is finished, and goes on where it was cut off (`take_up`). A single
    run's failure is raised.
    `gather` gets the folder that holds all results, after every job; the text that it returns is for the end.
    """

    def __init__(self, job: Job, gather: Gather | None, sweep: Sweep | None, *, quiet: bool) -> None:
        self._job = job
        self._gather = gather
        self._quiet = quiet
        self._folder = None if sweep is None else sweep.folder.absolute()
        self._shared = [] if sweep is None else list(sweep.shared)
        self._gathered = ""

    def begin(self) -> None:
        """Before the first job of a sweep."""
        if self._folder is not None:
            Ledger(self._folder).open()

    @property
    def begun(self) -> bool:
        """Whether any job of the sweep has begun."""
        return self._folder is not None and bool(Ledger(self._folder).entries())

    def __call__(self, composed: DictConfig) -> float | None:
        """The job's value for one composed config; None where a job of a sweep failed or came to no number.

        Of several tasks that a launcher has started for it, the first alone does all this, and the others follow.
        """
        if is_follower():
            follow(self._job)
            return None
        with leading(self._job):
            return self._lead(composed)

    def _lead(self, composed: DictConfig) -> float | None:
        about = HydraConfig.get()
        folder = Path(about.runtime.output_dir)
        value: float | None
        if self._folder is None:
            value = self._alone(_plain(composed), folder)
        else:
            swept = " ".join(own_overrides(about.overrides.task, self._shared))
            value = self._attempt(composed, folder, f"job {about.job.num} ({swept})", Ledger(self._folder))
        if self._gather is not None:
            self._gathered = self._gather(self._folder or folder)
        return value

    def tell(self) -> int:
        """Says what the jobs came to together, and gives the exit status; for the process of the command."""
        entries = [] if self._folder is None else Ledger(self._folder).close()
        if self._gather is not None and self._folder is not None:
            self._gathered = self._gather(self._folder)
        if self._gathered:
            print(self._gathered, flush=True)  # noqa: T201
        return 0 if self._folder is None else told(entries, self._folder)

    def _alone(self, config: Config, folder: Path) -> float:
        if "resume" not in config:
            return self._job(config, folder)
        from filelock import FileLock, Timeout

        try:
            with FileLock(folder / ".lock", timeout=0):
                return self._job(config, folder)
        except Timeout:
            raise UserError(f"{folder}: another command is writing this run. Wait for its end.") from None
        except (SystemExit, KeyboardInterrupt):
            if (folder / "checkpoints" / "last.ckpt").exists():
                log.info("interrupted: resume=%s goes on where it stopped", folder)
            else:
                log.info("interrupted before there was anything to resume")
            raise

    def _attempt(self, composed: DictConfig, folder: Path, name: str, ledger: Ledger) -> float | None:
        error_file = folder / "error.txt"
        ledger.add(Entry(name, "begun"))
        log.info("%s", name)
        try:
            with held(folder):
                value, outcome = self._call(composed, folder)
        except Exception as error:
            message = explain(error) if self._quiet else None
            reason = message or "".join(traceback.format_exception(error)).rstrip()
            if not (folder / "report.json").exists():
                error_file.write_text(f"{reason}\n")
            sys.stderr.write(f"error: {name}: {reason}\n")
            ledger.add(Entry(name, "failed", 1 if message is None else 2, reason.splitlines()[-1]))
            return None
        except (SystemExit, KeyboardInterrupt) as end:
            code = end.code if isinstance(end, SystemExit) else None
            ledger.add(Entry(name, "cut off", code if isinstance(code, int) else 128 + signal.SIGINT))
            raise
        error_file.unlink(missing_ok=True)
        log.info("%s %s", name, outcome)
        ledger.add(Entry(name, outcome))
        return None if math.isnan(value) else value

    def _call(self, composed: DictConfig, folder: Path) -> tuple[float, Outcome]:
        config = _plain(composed)
        value = None
        if "resume" in config:
            config, value = take_up(config, folder)
        if value is not None:
            return value, "finished before"
        note(folder, composed)
        return self._job(config, folder), "went on" if config.get("resume") else "ran"


def _plain(composed: DictConfig) -> Config:
    config = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}
