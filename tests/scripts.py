"""The project's scripts as a user runs them, without paying for the same imports each time."""

import atexit
import functools
import gc
import importlib
import json
import logging
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import multiprocessing.util
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType, TracebackType
from unittest.mock import patch

import pytest
from conftest import ROOT
from PIL import Image

from segmentation.cli import compose
from segmentation.console import main

IMPORTED = (
    *("segmentation.commands", "segmentation.planner", "segmentation.training", "segmentation.evaluation"),
    *(
        "segmentation.cli.auto",
        "segmentation.cli.resume",
        "segmentation.cli.run_folder",
        "segmentation.cli.sweep",
    ),
    *("torch.utils.tensorboard", "matplotlib.backends.backend_agg"),
)
"""What nearly every script imports, and each fork has already."""

FIGURES = (
    "segmentation.training.draw_curves",
    "segmentation.callbacks.history.draw_curves",
    "segmentation.report.html.draw_figures",
)
"""They take half of a tiny run's time, so that a fork draws them only with the environment's `FIGURES=1`."""

WORK = (
    "pytorch_lightning.Trainer.fit",
    "segmentation.evaluation.run._evaluate_one",
    "segmentation.predict._run",
    "segmentation.selection._survey",
)
"""With the environment's `UNTIL_WORK=1` a fork ends where one of them is called, and says so.

Options, data and checkpoints are found good by then, the run is planned, and its model is made.
"""

BEGINS = "Here the work would begin."

Done = subprocess.CompletedProcess[str]


def run_script(
    name: str,
    *arguments: str,
    folder: Path = ROOT,
    fresh: bool = False,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Done:
    """Runs `name` (train.py, evaluate.py ...) with `folder` as its working directory, in a process of its own.

    That process is a fork of one in which the libraries are imported already, and draws no `FIGURES`; with `fresh`
    it is a new Python, as for a user: once a script is enough. What a fork itself starts as new processes are forks,
    too: by multiprocessing, or by `sys.executable`, which is `warm_python` there.
    """
    command = [str(ROOT / name), *arguments]
    if fresh:
        return subprocess.run(
            [sys.executable, *command],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
            env={**os.environ, **environment},
        )
    with Script(command, folder, environment) as script:
        out, err = script.communicate()
        return subprocess.CompletedProcess(command, script.wait(), out, err)


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str, int]:
    """What the command `segmentation` prints in this process, and its exit status; for those that run nothing."""
    status = 0
    environment = {"HYDRA_FULL_ERROR": "0"}  # which a command sets for its process
    handlers, level = logging.root.handlers[:], logging.root.level
    with patch.object(sys, "argv", ["/bin/segmentation", *arguments]), patch.dict(os.environ, environment):
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
    for handler in {*logging.root.handlers} - {*handlers}:
        handler.close()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    out, err = capsys.readouterr()
    return out, err, status


class Script:
    """A script that runs beside the test, in a fork as above and a session of its own; used as `Popen` is."""

    def __init__(
        self, command: list[str], folder: Path, environment: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.returncode: int | None = None
        pipes = [os.pipe() for _ in range(3)]
        (out, err, self._answers), theirs = zip(*pipes, strict=True)
        self.stdout, self.stderr = (os.fdopen(stream, encoding="utf-8") for stream in (out, err))
        request = json.dumps([command, str(folder), dict(environment)]).encode()
        socket.send_fds(_server(), [request], theirs)
        for stream in theirs:
            os.close(stream)
        self.pid = self._answer()

    def __enter__(self) -> "Script":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        if kind is not None and self.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
        self.wait()
        self.stdout.close()
        self.stderr.close()
        os.close(self._answers)

    def _answer(self) -> int:
        answer = os.read(self._answers, 4)
        assert answer, "the process that forks the scripts is gone"
        return int.from_bytes(answer, signed=True)

    def poll(self) -> int | None:
        """The exit status, if the script has ended."""
        ended = self.returncode is not None or select.select([self._answers], [], [], 0)[0]
        return self.wait() if ended else None

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = self._answer()
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it says until all that write to its streams have ended."""
        with ThreadPoolExecutor(2) as pool:
            texts = [pool.submit(stream.read) for stream in (self.stdout, self.stderr)]
            try:
                out, err = (text.result(timeout) for text in texts)
            except TimeoutError:
                os.killpg(self.pid, signal.SIGKILL)
                raise
        self.wait()
        return out, err


def warm_python() -> str:
    """A file that stands in for Python: a script, or the package, that it is given to run is such a fork.

    Libraries start Python otherwise, and give it files that are open: that is a new Python.
    """
    _server()
    return str(_folder() / "python")


# In a Python that imports next to nothing.
_STAND_IN = """#!{python} -IS
import json, os, signal, socket, sys

given = [word for word in sys.argv[1:] if word not in ("-u", "-P")]
if given[:2] != ["-m", "segmentation"] and (not given or given[0].startswith("-")):
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
answers, theirs = os.pipe()
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
    server.connect({address!r})
    request = json.dumps([given, os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [request], [1, 2, theirs])
os.close(theirs)
child = int.from_bytes(os.read(answers, 4), sys.byteorder, signed=True)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda number, frame: os.kill(child, number))
status = int.from_bytes(os.read(answers, 4), sys.byteorder, signed=True)
if status < 0:
    signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
    os.kill(os.getpid(), -status)
os._exit(status)
"""


@functools.cache
def _folder() -> Path:
    """Of the process that forks: its address, and the file that stands in for Python."""
    folder = tempfile.TemporaryDirectory()  # short, as the address of a socket has to be
    atexit.register(folder.cleanup)
    return Path(folder.name)


@functools.cache
def _server() -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    address, python = _folder() / "address", _folder() / "python"
    python.write_text(_STAND_IN.format(python=sys.executable, address=str(address)))
    python.chmod(0o700)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(address))
        listener.listen(16)
        server = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno()), str(listener.fileno()), str(python)],
            pass_fds=[theirs.fileno(), listener.fileno()],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    theirs.close()

    @atexit.register
    def stop() -> None:
        ours.close()
        server.wait()

    return ours


def _serve(requests: socket.socket, listener: socket.socket, python: str) -> None:
    """Forks for every request, and answers on its third stream with the process's number and exit status."""
    for name in IMPORTED:
        importlib.import_module(name)
    Image.init()  # Pillow's plugins
    compose("train")  # Hydra looks for its plugins once
    multiprocessing.resource_tracker.ensure_running()  # one for all
    gc.freeze()  # else each fork searches the libraries for garbage, and copies their memory by that
    assert threading.active_count() == 1, "a fork of several threads may wait for ever"
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    while True:
        ready, _, _ = select.select([requests, listener], [], [])
        source = requests if requests in ready else listener.accept()[0]
        request, streams, _, _ = socket.recv_fds(source, 1 << 20, 3)
        if source is not requests:
            source.close()
        elif not request:
            os._exit(0)  # what is frozen would be reported as leaked
        if os.fork() == 0:
            requests.close()
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            sys.executable = python
            _watch(*json.loads(request), *streams)
        for stream in streams:
            os.close(stream)


def _watch(command: list[str], folder: str, environment: dict[str, str], *streams: int) -> None:
    out, err, answers = streams
    child = os.fork()
    if child == 0:
        os.close(answers)
        _run(command, folder, environment, out, err)
    os.close(out)
    os.close(err)
    os.write(answers, child.to_bytes(4, signed=True))
    _, status = os.waitpid(child, 0)
    with suppress(BrokenPipeError):  # the test has failed meanwhile
        os.write(answers, os.waitstatus_to_exitcode(status).to_bytes(4, signed=True))
    os._exit(0)


def _run(command: list[str], folder: str, environment: dict[str, str], out: int, err: int) -> None:
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, stream in ((1, out), (2, err)):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.update(environment)
    module = command[0] == "-m"
    sys.argv = command[module:]
    sys.path[0] = folder if module else str(Path(command[0]).parent)
    for name in () if os.environ.get("FIGURES") else FIGURES:
        patch(name).start()
    for name in WORK if os.environ.get("UNTIL_WORK") else ():
        patch(name, _end).start()
    _spawn_by_forks()
    status = 0
    try:
        if module:
            runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(command[0], run_name="__main__")
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    # As Python ends, but for the taking apart of all that was imported, which would take longer than most scripts.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _end(*_: object, **__: object) -> None:
    print(BEGINS, flush=True)  # noqa: T201
    os._exit(0)  # what ends a training is not the matter here


def _spawn_by_forks() -> None:
    """Forks of this process as it is now, before the script, stand for each new Python of multiprocessing's "spawn".

    They are given all that they know in the same way, as pickles, and read the script anew.
    """

    def fork(path: str, arguments: list[str], streams: list[int]) -> int:
        if (child := os.fork()) == 0:
            for before, after in pairwise([2, *sorted(streams), 1024]):
                os.closerange(before + 1, after)
            with suppress(SystemExit):
                exec(arguments[-1], {})
            os._exit(0)
        return child

    with patch.object(multiprocessing.util, "spawnv_passfds", fork):
        multiprocessing.forkserver.ensure_running()
    multiprocessing.context._concrete_contexts["spawn"] = multiprocessing.get_context("forkserver")  # type: ignore[attr-defined]


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])), socket.socket(fileno=int(sys.argv[2])), sys.argv[3])
