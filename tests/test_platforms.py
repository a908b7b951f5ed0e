"""What only Unix has is not needed, but for several processes."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

MODULES = ("fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty")
NAMES = {
    "signal": ("SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "SIGUSR2", "pthread_sigmask"),
    "os": (
        *(
            "O_NOFOLLOW",
            "O_NONBLOCK",
            "fork",
            "getuid",
            "getpgid",
            "killpg",
            "mkfifo",
            "nice",
            "sched_getaffinity",
        ),
        *("setpgrp", "setsid", "statvfs", "sysconf", "uname", "wait"),
    ),
}
"""What Windows lacks of these modules, of what one might use."""

SEVERAL_PROCESSES = {"segmentation/cli/launch.py"}  # not offered on Windows: docs/platforms.md
GUARDED = {"segmentation/data/datamodule.py": {"SIGCHLD"}, "segmentation/machine.py": {"sched_getaffinity"}}

TAKEN_AWAY = f"""
import os, signal
for module, names in {NAMES!r}.items():
    for name in names:
        delattr({{"os": os, "signal": signal}}[module], name)
"""

HELP = f"""
import sys
{TAKEN_AWAY}
from segmentation.commands import COMMANDS
from segmentation.console import main
for words in (["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)):
    sys.argv = ["segmentation", *words]
    try:
        main()
    except SystemExit as end:
        assert not end.code, words
"""


def _used(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from {alias.name for alias in node.names} & {*MODULES}
        elif isinstance(node, ast.ImportFrom) and node.module in (*MODULES, *NAMES):
            yield from {alias.name for alias in node.names} & {*NAMES.get(node.module, (node.names[0].name,))}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield from {node.attr} & {*NAMES.get(node.value.id, ())}


@pytest.mark.parametrize("path", sorted((ROOT / "segmentation").rglob("*.py")), ids=lambda path: path.stem)
def test_a_module_uses_what_all_systems_have(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    if name not in SEVERAL_PROCESSES:
        assert {*_used(path)} <= GUARDED.get(name, set())


def test_every_command_starts_without_it() -> None:
    done = subprocess.run([sys.executable, "-c", HELP], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
