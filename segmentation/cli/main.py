"""A function of a config, made a command."""

import contextlib
import functools
import inspect
import logging
import os
import re
import signal
import sys
import textwrap
import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from segmentation.cli.launch import follow, is_follower, leading, refuse_sweep
from segmentation.cli.overrides import CHOICES, CONF, Gather, Job, shared_options

if TYPE_CHECKING:
    from segmentation.cli.search import Search
    from segmentation.cli.sweep import Jobs, Sweep

# MERGED FROM cli/help: `--help`, written for people and gathered from the config files, so that it cannot lag behin

_OPTION = re.compile(r"^(?P<indent> *)(?P<key>\w+): *(?P<value>.*?) +# (?P<why>.*)$")
_WIDTH = 110


def help_text(script: str, about: str, conf: Path, config_name: str) -> str:
    """What the command does (its docstring, examples included), its groups with their options, its own options."""
    lines = (conf / f"{config_name}.yaml").read_text().splitlines()
    groups = [match[1] for line in lines if (match := re.match(r"  - (\w+): ", line))]
    shared = shared_options(conf, config_name)
    return "\n".join(
        [
            f"Usage: python {script} [GROUP=OPTION ...] [KEY=VALUE ...]",
            "",
            inspect.cleandoc(about),
            "",
            *_groups(conf, groups, shared),
            "Options (KEY=VALUE; default):",
            *_options(lines),
            "",
            "More: -m runs every combination of comma-separated values; --cfg job shows the composed config;",
            "      --hydra-help lists Hydra's own flags"
            + (
                "; trainer.KEY=VALUE takes Lightning's own names."
                if "trainer" in {*groups} - {*shared}
                else "."
            ),
        ]
    )


def _groups(conf: Path, groups: list[str], shared: Collection[str]) -> list[str]:
    heading = "Groups (choose an option by name; its file in conf/ says what each value is for):"
    return [heading, *(_group(conf, group, group in shared) for group in groups), ""] if groups else []


def _group(conf: Path, group: str, is_shared: bool) -> str:
    # A leading underscore marks files that other options inherit from.
    files = (path.stem for path in (conf / group).glob("[!_]*.yaml"))
    names = sorted(CHOICES[group] if is_shared else files)
    text = textwrap.wrap(" ".join(names), _WIDTH - 17) or ["-"]
    return f"  {group:13}  " + f"\n{'':17}".join(text)


def _options(lines: list[str]) -> list[str]:
    described, section = [], ""
    for line in lines:
        if header := re.match(r"^(\w+):$", line):
            section = header[1]
        if not (match := _OPTION.match(line)):
            continue
        key = f"{section}.{match['key']}" if match["indent"] else match["key"]
        why = textwrap.wrap(match["why"], _WIDTH - 32)
        described.append(f"  {key + '=' + match['value']:28}  " + f"\n{'':32}".join(why))
    return described


_INTERRUPTED = 130  # what a shell expects of a process that Ctrl-C ended
_OF_A_SWEEP = ("hydra.output_subdir=null",)  # each job writes it, once it has seen what its folder holds
_WORKER_DIED = (
    "a process of the launcher was killed, as the system does when memory runs out, and the jobs beside it ended"
    " with it. Give the same command again, where it was memory with fewer hydra.launcher.n_jobs."
)


def script(config_name: str, gather: Gather | None = None) -> Callable[[Job], Callable[[], None]]:
    """Makes `job(config, folder) -> float` a command over `conf/<config_name>.yaml`.

    The job gets its config as plain data and the folder of its run. `gather(folder) -> text` is called after
    every job with the folder that holds all results, the run's own or the sweep's; its last text is printed.

    A mistake of the user's ends in one message on stderr and exit status 2; `HYDRA_FULL_ERROR=1` shows the
    traceback instead. In a sweep the other jobs go on, and the failed ones are listed at the end.
    """

    def decorate(job: Job) -> Callable[[], None]:
        @functools.wraps(job)
        def command() -> None:
            if {"-h", "--help"} & set(sys.argv[1:]):
                print(help_text(Path(sys.argv[0]).name, job.__doc__ or "", CONF, config_name))  # noqa: T201
                return
            # OpenCV, which reads it when it is imported, prints a warning for each georeferenced or damaged TIFF.
            os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
            full_error = os.environ.get("HYDRA_FULL_ERROR", "0") == "1"
            try:
                refuse_sweep(sys.argv[1:])
                if is_follower():
                    follow(job)
                    return
                with leading(job) as told:
                    _run(told, gather, config_name, quiet=not full_error)
            except KeyboardInterrupt:
                sys.exit(_INTERRUPTED)
            except Exception as error:
                # Imported here: the messages know Hydra, and the help above should not wait for it.
                from segmentation.cli.messages import explain

                message = None if full_error else explain(error)
                if message is None:
                    raise
                stop(message)

        return command

    return decorate


def stop(message: str) -> NoReturn:
    """Ends the process as for a mistake of the user's."""
    sys.stderr.write(f"error: {message}\n")
    sys.exit(2)


def _run(job: Job, gather: Gather | None, config_name: str, *, quiet: bool) -> None:
    from segmentation.cli.overrides import refuse_training_options
    from segmentation.cli.resume import resumed
    from segmentation.cli.sweep import Jobs, plan_sweep

    # Hydra would print its own report of a wrong override and end with exit status 1; so it hands it to us.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    refuse_training_options(sys.argv[1:], CONF, config_name)
    sweep = plan_sweep(sys.argv[1:], config_name)
    jobs = Jobs(job, gather, sweep, quiet=quiet)
    if sweep is not None:
        _run_sweep(jobs, sweep, config_name, quiet=quiet)
        return
    sys.argv[1:] = resumed(sys.argv[1:])
    _compose_and_call(jobs, config_name, quiet=quiet)
    jobs.tell()


def _run_sweep(jobs: "Jobs", sweep: "Sweep", config_name: str, *, quiet: bool) -> None:
    from segmentation.cli.search import Search

    with sweep.alone(), _signals_as_exceptions():
        search = Search.of(sweep)
        more = [*_OF_A_SWEEP, *(search.arguments if search else ())]
        sys.argv[1:] = sweep.arguments(more)
        _silence_launchers()
        jobs.begin()
        status = 0
        try:
            status = _launch(jobs, search, config_name, quiet=quiet)
        finally:
            status = jobs.tell() or status
        if search:
            search.tell()
    if status:
        sys.exit(status)


@contextlib.contextmanager
def _signals_as_exceptions() -> Iterator[None]:
    """Inside, SIGTERM and SIGUSR1 raise `SystemExit` with 128 + the signal, as Ctrl-C raises `KeyboardInterrupt`.

    Otherwise they would end the command alone, and leave the processes of joblib's launcher at work. A training has
    its own handlers, by which a job in this process ends after its step.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals go to the main thread alone
        return

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    earlier = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def _launch(jobs: "Jobs", search: "Search | None", config_name: str, *, quiet: bool) -> int:
    """Every job of a sweep; the exit status, as far as it is not that of a job."""
    from concurrent.futures.process import BrokenProcessPool

    from hydra.errors import HydraException

    from segmentation.cli.messages import explain

    try:
        _compose_and_call(jobs, config_name, quiet=quiet)
    except BrokenProcessPool:
        sys.stderr.write(f"error: {_WORKER_DIED}\n")
    except HydraException as error:
        # Values that make no config end the sweeper, too.
        if search is None or not (quiet and search.fruitful):
            raise
        sys.stderr.write(f"error: {explain(error)} {search.ended}\n")
        return 2
    except ValueError:
        # The sweeper looks for the best trial even where all of them failed, which is told later.
        if search is None or search.fruitful or not jobs.begun:
            raise
    return 0


def _silence_launchers() -> None:
    """Each job says itself which it is; a launcher would repeat what all of them share."""
    for launcher in (
        "hydra._internal.core_plugins.basic_launcher",
        "hydra_plugins.hydra_joblib_launcher._core",
    ):
        logging.getLogger(launcher).setLevel(logging.WARNING)


def _compose_and_call(jobs: "Jobs", config_name: str, *, quiet: bool) -> None:
    import hydra
    from omegaconf import DictConfig

    from segmentation.cli.messages import explain
    from segmentation.cli.overrides import without_training

    def task(composed: DictConfig) -> float | None:
        try:
            # The files of conf/dataset bring values for training, which a checkpoint has already.
            return jobs(without_training(composed, CONF, config_name))
        except Exception as error:
            message = explain(error) if quiet else None
            if message is None:
                raise
            # Hydra would print the overrides above an exception that passes through it.
            stop(message)

    hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(task)()
