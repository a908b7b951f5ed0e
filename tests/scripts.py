"""The project's scripts as a user runs them, without paying for the same imports each time."""

import atexit
import functools
import json
import os
import runpy
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory

from conftest import ROOT

Done = subprocess.CompletedProcess[str]


def run_script(name: str, *arguments: str, folder: Path = ROOT, fresh: bool = False) -> Done:
    """Runs `name` (train.py, evaluate.py ...) with `folder` as its working directory, in a process of its own.

    That process is a fork of one in which the libraries are imported already; with `fresh` it is a new Python,
    as for a user: once a script is enough.
    """
    command = [str(ROOT / name), *arguments]
    if fresh:
        return subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, check=False, cwd=folder
        )
    with TemporaryDirectory() as streams:
        server = _server()
        assert server.stdin
        assert server.stdout
        server.stdin.write(json.dumps([command, str(folder), streams]) + "\n")
        server.stdin.flush()
        status = int(server.stdout.readline())
        out, err = ((Path(streams) / stream).read_text() for stream in ("1", "2"))
    return subprocess.CompletedProcess(command, status, out, err)


@functools.cache
def _server() -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )

    @atexit.register
    def stop() -> None:
        assert server.stdin
        server.stdin.close()
        server.wait()

    return server


def _serve() -> None:
    """Forks for every line on stdin, and answers with the exit status."""
    import segmentation.evaluate
    import segmentation.train  # noqa: F401
    from segmentation.cli import compose

    compose("train")  # Hydra looks for its plugins once
    assert threading.active_count() == 1, "a fork of several threads may wait for ever"
    for line in sys.stdin:
        command, folder, streams = json.loads(line)
        child = os.fork()
        if child == 0:
            _run(command, folder, streams)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _run(command: list[str], folder: str, streams: str) -> None:
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for stream in (1, 2):
        os.dup2(os.open(Path(streams) / str(stream), os.O_WRONLY | os.O_CREAT), stream)
    os.chdir(folder)
    sys.argv = command
    sys.path.insert(0, str(ROOT))
    status = 0
    try:
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


if __name__ == "__main__":
    _serve()
