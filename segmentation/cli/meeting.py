"""Where the processes that torchrun or srun started meet: a store of the first one's, or of torchrun's agent."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from segmentation.errors import UserError

if TYPE_CHECKING:
    from torch.distributed import Store, TCPStore

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
