"""The command `segmentation`: the commands by name, and `segmentation init`."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from segmentation import __version__
from segmentation.cli.messages import say, short_messages
from segmentation.commands import COMMANDS
from segmentation.errors import UserError, closest
from segmentation.machine import CONSOLE
from segmentation.writing import write_text

_EXPERIMENT = """\
# @package _global_
# An experiment of your own: segmentation train --config-dir conf experiment=mine
# Everything here can also be typed behind the command; segmentation train --help lists it all.
defaults:
  - override /dataset: folder
  - override /backbone: mobilenetv3_small  # small and fast; resnet18, resnet50 and many others are larger
name: mine                 # the results go to outputs/mine/DATE_TIME
dataset:
  root: data               # with images/ and masks/: a picture and its mask have one name, mask values are 0, 1, 2, ...
  classes: classes.yaml    # what the values mean
weights: none              # imagenet: a trained backbone, which is downloaded; better, above all with few images
"""

_CLASSES = """\
# The classes of your masks, in the order of their values: 0 is the first. 255 is always ignored.
names: [background, object]
"""

_COMPLETION = ("-sc", "--shell-completion")

_EXAMPLES = {"conf/experiment/mine.yaml": _EXPERIMENT, "classes.yaml": _CLASSES}


def main() -> None:
    """Runs the command that `sys.argv` names."""
    name, *arguments = sys.argv[1:] or ["--help"]
    called = f"{CONSOLE} {name}"
    if name in _COMPLETION:
        # Hydra's own knows one command of a program, and is told of the one that is being typed.
        called, arguments, name = CONSOLE, [name, *arguments], _typed()
    with short_messages(quiet=os.environ.get("HYDRA_FULL_ERROR", "0") != "1"):
        if name in ("-h", "--help"):
            say(_overview())
        elif name == "--version":
            say(f"{CONSOLE} {__version__}")
        elif name == "init":
            say(_init(arguments))
        elif name == "":
            say(" ".join((*COMMANDS, "init")))
        elif name not in COMMANDS:
            choices = ("--help", "--version") if name.startswith("-") else (*COMMANDS, "init")
            raise UserError(f"There is no command {name}.{closest(name, choices)}")
    if name in COMMANDS:
        sys.argv = [called, *arguments]
        COMMANDS[name]()


def _typed() -> str:
    """The command in the line that a shell completes, which is taken out of it; "" for a line that has none yet.

    Without a line the shell installs the completion, which any command can tell it.
    """
    line = os.environ.get("COMP_LINE", f"{CONSOLE} {next(iter(COMMANDS))} ")
    program, *words = line.split(maxsplit=2)
    if len(words) < 2 and not (words and line[-1].isspace()):
        return ""
    os.environ["COMP_LINE"] = f"{program} {' '.join(words[1:])}"
    return words[0] if words[0] in COMMANDS else ""


def _init(arguments: Sequence[str]) -> str:
    if {"-h", "--help"} & {*arguments}:
        about = (init.__doc__ or "").splitlines()[0]
        files = "\n".join(f"  {name}" for name in _EXAMPLES)
        return f"Usage: {CONSOLE} init\n\n{about}\n\n{files}\n\nWhere one of them exists nothing is written."
    if arguments:
        raise UserError(
            f"{CONSOLE} init takes no options, {arguments[0]} is one: it writes into this folder."
        )
    return init(Path())


def init(folder: Path) -> str:
    """Write an experiment of your own and a classes.yaml into this folder, to be filled in.

    Returns what to do next. Raises `UserError` where one of the files exists.
    """
    for name in _EXAMPLES:
        if (folder / name).exists():
            raise UserError(f"{folder / name} exists already: it was left as it is, and nothing was written.")
    for name, text in _EXAMPLES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    written = "\n".join(f"wrote {name}" for name in _EXAMPLES)
    return (
        f"{written}\nnext: data/images and data/masks, then {CONSOLE} train --config-dir conf experiment=mine"
    )


def _overview() -> str:
    about = {name: command.__doc__ or "" for name, command in COMMANDS.items()} | {"init": init.__doc__ or ""}
    lines = [f"  {name:12} {text.strip().splitlines()[0]}" for name, text in about.items()]
    return "\n".join(
        [
            f"Usage: {CONSOLE} COMMAND [GROUP=OPTION ...] [KEY=VALUE ...]",
            "",
            *lines,
            "",
            f"{CONSOLE} COMMAND --help tells its options. With --config-dir conf your own files in conf/ come beside",
            "those that are shipped. Options complete by TAB in bash after",
            f'  eval "$({CONSOLE} -sc install=bash)"    (for scripts: eval "$(python train.py -sc install=bash)")',
        ]
    )
