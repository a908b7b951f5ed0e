"""Several processes, one job: the first composes it, and the others get it as it is.

If each composed its own, every one would have a run folder named after its own clock. A process that the first one
starts finds the job in its environment. Under torchrun, or as a task of Slurm's, processes meet at a store, from which
the others take the one job of the first. A sweep has many, and is refused there.
"""

import json
import logging
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segmentation.cli.overrides import Job
from segmentation.errors import UserError

if TYPE_CHECKING:
    from torch.distributed import Store, TCPStore

# MERGED FROM cli/meeting: Where the processes that torchrun or srun started meet: a store of the first one's, or of

_FAREWELL_S = 15.0
_GRACE_S = 30.0  # one that still imports shall come to the same mistake by itself


def place() -> int:
    """This process's number among those that torchrun or srun started; -1 where there are no others."""
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ["WORLD_SIZE"] != "1":
        return int(os.environ["RANK"])
    if "SLURM_STEP_ID" in os.environ and os.environ.get("SLURM_NTASKS", "1") != "1":
        return int(os.environ["SLURM_PROCID"])
    return -1


def open_store() -> "TCPStore":
    """Raises `UserError` where Slurm was not told how many tasks a machine gets."""
    of_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    if not of_torchrun and "SLURM_NTASKS_PER_NODE" not in os.environ:
        raise UserError(
            f"Slurm was asked for --ntasks={os.environ['SLURM_NTASKS']}, which leaves open how many of them a"
            " machine gets: give --ntasks-per-node=NUMBER and --nodes=NUMBER."
        )
    from torch.distributed import TCPStore

    if of_torchrun:  # its agent keeps a store
        return TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    from pytorch_lightning.plugins.environments import SLURMEnvironment

    # Below the ports that systems give away, and for the steps of jobs that share a machine each another.
    port = 10000 + (100 * int(os.environ["SLURM_JOB_ID"]) + int(os.environ["SLURM_STEP_ID"])) % 20000
    first = place() == 0
    return TCPStore(SLURMEnvironment().main_address, port, is_master=first, wait_for_workers=False)


def see_off(store: "TCPStore") -> None:
    """Waits for the others, which need the store to their end; not for ever, because one may have died."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return  # the store is not this process's
    deadline = time.monotonic() + _FAREWELL_S
    while store.add(key("left"), 0) < int(os.environ["SLURM_NTASKS"]) - 1 and time.monotonic() < deadline:
        time.sleep(0.05)


def tell_over(store: "Store") -> None:
    """Tells the others that the first process has ended the job, however it ended."""
    store.set(key("over"), "")


@contextmanager
def no_longer_than_first(store: "Store") -> Iterator[None]:
    """Ends this process where it still waits in the job, which the first one has left half a minute ago.

    Or is gone, with its store. It waits inside of torch, where no exception reaches it.
    """
    over = threading.Event()

    def watch() -> None:
        while not over.wait(1.0):
            if _is_over(store):
                if not over.wait(_GRACE_S):
                    os._exit(1)
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _is_over(store: "Store") -> bool:
    try:
        return store.check([key("over")])
    except RuntimeError:
        return True


def key(name: str) -> str:
    """Another each time that torchrun starts all processes again."""
    return f"segmentation/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{name}"


def meet(port: int) -> None:
    """Lets torch's processes find each other at `port`, instead of at torchrun's own store or Slurm's number."""
    if place() >= 0:
        os.environ |= {"MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "False"}


def free_port() -> int:
    """A port of this machine that nobody listens to."""
    with socket.socket() as free:
        free.bind(("", 0))
        port: int = free.getsockname()[1]
        return port


_JOB = "SEGMENTATION_JOB"
_COMMAND = "SEGMENTATION_COMMAND"  # `segmentation/processes.py` runs it
_START = timedelta(minutes=10)  # for the first process to come, and to compose


def is_follower() -> bool:
    """Whether another process composes this one's jobs."""
    return _was_started() or place() > 0


def refuse_sweep(arguments: Sequence[str]) -> None:
    """Raises `UserError` for a sweep under torchrun or srun, whose processes are there for one run.

    In the first process: the others just end.
    """
    if place() < 0:
        return
    from hydra._internal.utils import get_args_parser

    given, _ = get_args_parser().parse_known_args(list(arguments))
    if not (given.multirun or "hydra.mode=MULTIRUN" in arguments):
        return
    if is_follower():
        sys.exit()  # not 2: torchrun would end the first process, perhaps before its message
    raise UserError(
        "A sweep (-m) cannot run inside torchrun or srun. Start it without them: hydra/launcher=submitit_slurm makes"
        " each run a job of Slurm's, and trainer=ddp trainer.devices=N gives each run N processes on this machine."
    )


def follow(job: Job) -> None:
    """Does the job of the first process, without a word; nothing where that one ends before it comes to its job."""
    own = job.job if isinstance(job, _Told) else job
    logging.disable(logging.INFO)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C comes to all, and the first process decides
    if _was_started():
        text = os.environ[_JOB]
        threading.Thread(target=_end_with, args=(json.loads(text)["process"],), daemon=True).start()
        sys.exit(_do(own, text))
    try:
        store = open_store()
    except UserError:  # the first process tells of it
        sys.exit(2)
    try:
        store.wait([key("job")], _START)
        if text := store.get(key("job")).decode():
            with no_longer_than_first(store):
                _do(own, text)
    finally:
        store.add(key("left"), 1)


@contextmanager
def leading(job: Job) -> Iterator[Job]:
    """`job` as one that the other processes are told of first; after the block they wait for it no longer.

    Inside of such a block, nothing: `job` is that already. In a process of a launcher, which has been sent
    `job`, the others are those that were started with it.
    """
    told = job if isinstance(job, _Told) else _Told(job)
    if told.store is not None or place() != 0:
        yield told
        return
    told.store = open_store()
    try:
        yield told
    finally:
        if not told.store.check([key("job")]):
            told.store.set(key("job"), "")
        see_off(told.store)
        told.store = None


class _Told:
    """Calls `job`; before that, puts config and folder into the store, if there is one, and into the environment."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.store: TCPStore | None = None
        self._command = str(Path(sys.argv[0]).absolute())

    def __getstate__(self) -> dict[str, Any]:
        """For a launcher: its processes have their own store."""
        return {**self.__dict__, "store": None}

    def __call__(self, config: Mapping[str, Any], folder: Path) -> float:
        port = free_port()
        about = {"config": config, "folder": str(folder.absolute()), "port": port, "process": os.getpid()}
        text = json.dumps(about)
        if self.store is not None:
            self.store.set(key("job"), text)
            meet(port)
        os.environ |= {_JOB: text, _COMMAND: self._command}
        try:
            return self.job(config, folder)
        except Exception as error:
            if self.store is None or not _is_loss(error):
                raise
            raise UserError(
                "Another process of the run has ended before its time, and this one with it."
            ) from error
        finally:
            del os.environ[_JOB], os.environ[_COMMAND]
            if self.store is not None:
                tell_over(self.store)


def _do(job: Job, text: str) -> int:
    """One job; its exit status."""
    told = json.loads(text)
    meet(told["port"])
    try:
        job(told["config"], Path(told["folder"]))
    except Exception as error:
        if isinstance(error, UserError):
            sys.stderr.write(f"error: {error}\n")
            return 2
        if not _is_loss(error):
            logging.getLogger(__name__).exception("a process of the run failed")
        return 1
    return 0


def _is_loss(error: Exception) -> bool:
    """Whether another process is not there any more: that one may have said why, and the first one says so."""
    return "gloo" in str(error) or type(error).__module__.startswith("torch.distributed")


def _was_started() -> bool:
    return _JOB in os.environ and os.environ.get("LOCAL_RANK", "0") != "0"


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
