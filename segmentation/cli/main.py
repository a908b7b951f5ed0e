"""Makes a function of a config a command: help, one run or a sweep of runs, error messages and exit statuses."""

import functools
import inspect
import logging
import os
import re
import shlex
import sys
import textwrap
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from segmentation.cli import launch
from segmentation.cli.messages import rank, say, short_messages, signals_as_exits
from segmentation.cli.overrides import (
    CHOICES,
    CONF,
    Command,
    Gather,
    Job,
    as_plain_data,
    given_keys,
    own_config,
    quote_paths,
    refuse_missing_folders,
    refuse_training_options,
    refuse_wrong_choices,
    shared_options,
)
from segmentation.machine import CONSOLE, program

# Hydra is imported where it is needed: --help must not wait for it.
if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger(__name__)

_OPTION = re.compile(r"^(?P<indent> *)(?P<key>\w+): *(?P<value>.*?) +# (?P<why>.*)$")
_WIDTH = 110


def script(
    config_name: str,
    *,
    paths: Collection[str] = (),
    lists: Collection[str] = (),
    gather: Gather | None = None,
) -> Callable[[Job], Callable[[], None]]:
    """Makes `job(config, folder) -> float` a command over `conf/<config_name>.yaml`.

    The job gets its config as plain data and the folder of its run. Of the options `paths` any file name may be typed;
    those of `lists` may be one, or a list, which is Hydra's to read. `gather(folder) -> text` is called after
    every job with the folder that holds all results, the run's own or the sweep's; its last text is printed.

    A user's mistake ends in one message on stderr and exit status 2; `HYDRA_FULL_ERROR=1` shows the traceback
    instead. In a sweep the other jobs go on, and the failed ones are listed at the end.
    """

    def decorate(job: Job) -> Callable[[], None]:
        @functools.wraps(job)
        def command() -> None:
            if {"-h", "--help"} & set(sys.argv[1:]):
                say(help_text(shlex.join(program()), job.__doc__ or "", CONF, config_name))
                return
            # OpenCV reads it when it is imported: it would print a warning for each georeferenced or damaged TIFF.
            os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
            quiet = os.environ.get("HYDRA_FULL_ERROR", "0") != "1"
            with signals_as_exits(), short_messages(quiet):
                quote_paths(*paths, lists=lists)
                launch.refuse_sweep(sys.argv[1:])
                if rank() > 0:
                    launch.follow(job)
                    return
                import hydra
                from hydra.core.hydra_config import HydraConfig

                from segmentation.cli.auto import with_recognised
                from segmentation.cli.resume import with_resumed
                from segmentation.cli.run_folder import keep_config, only_writer, placed
                from segmentation.cli.sweep import run_sweep
                from segmentation.cli.sweep_plan import plan_sweep

                # Hydra would print its own report of a wrong override, and end with exit status 1.
                os.environ["HYDRA_FULL_ERROR"] = "1"
                refuse_training_options(sys.argv[1:], CONF, config_name)
                typed = Command.parse(sys.argv[1:], config_name)
                refuse_missing_folders(typed.config_folders)
                refuse_wrong_choices(typed.overrides, typed.config_folders)
                sys.argv[1:], recognised = with_recognised(sys.argv[1:], config_name)
                if (sweep := plan_sweep(sys.argv[1:], config_name)) is not None:
                    for note in recognised:
                        print(note, flush=True)  # noqa: T201 - each job logs its own lines
                    run_sweep(sweep, job, gather, config_name, quiet=quiet)
                    return

                def run(composed: "DictConfig") -> float:
                    folder = Path(HydraConfig.get().runtime.output_dir)
                    # Hydra would print the overrides above an exception that passes through it.
                    with short_messages(quiet):
                        composed, notes = own_config(composed, config_name)
                        config = as_plain_data(composed)
                        if "plan" in config:
                            config["given"] = given_keys(HydraConfig.get())
                        with only_writer(config, folder):
                            for note in (*recognised, *left_out):
                                log.info("%s", note)
                            for note in notes:
                                log.info("note: %s", note)
                            if config.get("resume", "") is None:
                                keep_config(folder, composed)
                            announce(config, folder)
                            value = launch.in_processes(job, config)(config, folder)
                        if gather is not None:
                            print(gather(folder), flush=True)  # noqa: T201
                    return value

                arguments, left_out = with_resumed(sys.argv[1:])
                command = Command.parse(arguments, config_name)
                with launch.announcing() as announce, placed(command) as sys.argv[1:]:
                    hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(run)()

        return command

    return decorate


def help_text(program: str, about: str, conf: Path, config_name: str) -> str:
    """The text of `--help`: the docstring, the groups and the options, read from the config files.

    The examples are those of the scripts; for `program` "segmentation NAME" they are written so, too.
    """
    if program.startswith(CONSOLE):
        about = re.sub(r"python ([a-z]+)(_[a-z]+)?\.py", rf"{CONSOLE} \1", about)
    lines = (conf / f"{config_name}.yaml").read_text().splitlines()
    groups = [match[1] for line in lines if (match := re.match(r"  - (\w+): ", line))]
    shared = shared_options(conf, config_name)
    return "\n".join(
        [
            f"Usage: {program} [GROUP=OPTION ...] [KEY=VALUE ...]",
            "",
            inspect.cleandoc(about),
            "",
            *_group_lines(conf, groups, shared),
            "Options (KEY=VALUE; default):",
            *_option_lines(lines),
            "",
            "More: -m runs every combination of comma-separated values; --cfg job shows the composed config;",
            "      --hydra-help lists Hydra's own flags"
            + (
                "; +trainer.KEY=VALUE takes the other names of Lightning's Trainer."
                if "trainer" in {*groups} - {*shared}
                else "."
            ),
        ]
    )


def _group_lines(conf: Path, groups: list[str], shared: Collection[str]) -> list[str]:
    heading = "Groups (choose an option by name; its file in conf/ says what each value is for):"
    return [heading, *(_group(conf, group, group in shared) for group in groups), ""] if groups else []


def _group(conf: Path, group: str, is_shared: bool) -> str:
    # A leading underscore marks files that other options inherit from.
    files = (path.stem for path in (conf / group).glob("[!_]*.yaml"))
    names = sorted(CHOICES[group] if is_shared else files)
    text = textwrap.wrap(" ".join(names), _WIDTH - 17) or ["-"]
    return f"  {group:13}  " + f"\n{'':17}".join(text)


def _option_lines(lines: list[str]) -> list[str]:
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
