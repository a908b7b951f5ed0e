"""Several processes for one job: started here by torch's elastic launcher, or outside by torchrun or Slurm's srun.

The command itself composes the config and names the run folder. Processes that it starts get both as arguments. Under
torchrun and srun every process is such a command: the first one composes, and sends both to the others through a
store, for each would name a run folder after its own clock. A sweep has many jobs, and is refused there.
"""

import functools
import json
import logging
import logging.config
import math
import multiprocessing
import os
import runpy
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from segmentation.cli.messages import explain, handling, leave, lost_another, rank
from segmentation.cli.overrides import Config, Job
from segmentation.errors import UserError
from segmentation.machine import ENDING_SIGNALS

# torch is imported where it is needed: a single process must not wait for it before its options are checked.
if TYPE_CHECKING:
    from torch.distributed import Store, TCPStore
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

_START = timedelta(minutes=10)  # for the first process to compose the job
_READ_S = 15.0  # for the others to read it
_GRACE_S = 30.0  # for a process to end by itself after the first one, or the command, has ended


# ---- processes that the command starts ----


def in_processes(job: Job, config: Config) -> Job:
    """The job, or one that runs it in the processes on this machine that `trainer.devices` asks for."""
    processes = processes_to_start(config)
    return job if processes == 1 else functools.partial(_run_in_processes, job, processes=processes)


def processes_to_start(config: Mapping[str, Any]) -> int:
    """The number of processes that `trainer.devices` asks for on this machine; 1 where torchrun or Slurm does.

    1 also where the option is wrong: the job itself says so.
    """
    trainer = config.get("trainer")
    if not isinstance(trainer, Mapping) or str(trainer.get("devices", 1)) == "1" or rank() >= 0:
        return 1
    from pytorch_lightning import Trainer
    from pytorch_lightning.plugins.environments import SLURMEnvironment

    from segmentation.library_warnings import library_warnings_hidden

    if SLURMEnvironment.detect():
        return 1
    accelerator = str(config.get("accelerator", trainer.get("accelerator", "auto"))).partition(":")[0]
    try:
        with library_warnings_hidden():
            return Trainer(
                accelerator=accelerator,
                devices=trainer["devices"],
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            ).num_devices
    except Exception:
        return 1


def _run_in_processes(job: Job, config: Config, folder: Path, processes: int) -> float:
    """Runs `job` in this many processes and returns the result of the first.

    The processes get SIGINT, SIGTERM and SIGUSR1 of the command. Raises `SystemExit` with the exit status of a run
    that such a signal ended, and `UserError` where the job raises it and where a process dies, which ends all.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from segmentation.distributed import OWN_LAUNCH

    received: list[int] = []
    noting = handling(ENDING_SIGNALS, lambda number, frame: received.append(number))
    with TemporaryDirectory() as logs, noting, _logging_disabled():
        launch = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=OWN_LAUNCH,
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            local_addr="127.0.0.1",
            max_restarts=0,
            monitor_interval=0.1,
            start_method="spawn",
            logs_specs=DefaultLogsSpecs(log_dir=logs),
        )
        script = job.__code__.co_filename
        arguments = (script, job.__name__, config, str(folder.absolute()), _log_config())
        # In a thread of its own: there torch installs no signal handlers, which would end the processes in 30 s
        # whether they have written their checkpoint or not. They begin with the signals blocked, as the thread has.
        with ThreadPoolExecutor(
            1, initializer=signal.pthread_sigmask, initargs=(signal.SIG_BLOCK, ENDING_SIGNALS)
        ) as pool:
            results = pool.submit(elastic_launch(launch, _run_worker), *arguments)
            _forward_signals(received, results)
    try:
        value: float = results.result()[0]
    except ChildFailedError as error:
        raise _reason(error, received) from None
    return value


def _log_config() -> Config:
    """Hydra's logging of the running job, for the processes that have no Hydra."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    settings = OmegaConf.to_container(HydraConfig.get().job_logging, resolve=True)
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()}


@contextmanager
def _logging_disabled() -> Iterator[None]:
    """The launcher would print a traceback of its own for every process that ends early."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _forward_signals(received: list[int], results: Future[Any]) -> None:
    forwarded = 0
    while not results.done():
        wait([results], timeout=0.1)
        while forwarded < len(received) and (workers := multiprocessing.active_children()):
            for worker in workers:
                if worker.pid is not None:
                    _send(worker.pid, received[forwarded])
            forwarded += 1


def _send(process: int, number: int) -> None:
    with suppress(ProcessLookupError):  # it has ended meanwhile
        os.kill(process, number)


def _reason(error: "ChildFailedError", received: list[int]) -> BaseException:
    """What the failure of the first process to fail means for the command."""
    number, failure = error.get_first_failure()
    if failure.exitcode > 128:
        return SystemExit(failure.exitcode)
    if received:
        return SystemExit(128 + received[0])
    about = failure.error_file_data.get("message")
    if isinstance(about, dict):  # written by torch where an exception ended the process
        kind, _, message = about["message"].partition(": ")
        original = RuntimeError(f"in process {number}:\n{about['extraInfo']['py_callstack']}")
        if kind != UserError.__name__:
            return original
        mistake = UserError(message)
        mistake.__cause__ = original
        return mistake
    how = (
        f"by signal {signal.Signals(-failure.exitcode).name}"
        if failure.exitcode < 0
        else f"with exit status {failure.exitcode}"
    )
    return UserError(f"Process {number} of the run ended {how}, and the others with it.")


def _run_worker(script: str, function: str, config: Config, folder: str, log_config: Config) -> float:
    """One of the processes: runs the job that `function` of the file `script` is decorated as."""
    first = os.environ["RANK"] == "0"
    os.setpgrp()  # a terminal sends Ctrl-C to the command's group: the command alone forwards it
    # What a signal does until the training listens to it itself.
    signal.signal(signal.SIGINT, signal.default_int_handler if first else signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, leave if first else signal.SIG_IGN)
    signal.signal(signal.SIGTERM, leave if first else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)
    if first:
        if log_config.get("root"):
            logging.config.dictConfig(log_config)
    else:
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
        _be_quiet()
    _share_threads(int(os.environ["LOCAL_WORLD_SIZE"]))
    job: Job = runpy.run_path(script, run_name="segmentation_worker")[function].__wrapped__
    try:
        return job(config, Path(folder))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except SystemExit as end:
        if first or end.code not in [128 + number for number in ENDING_SIGNALS]:
            raise
        return math.nan  # the first process ends the run after a signal, once it has written all
    except Exception as error:
        if lost_another(error):
            time.sleep(5)  # the launcher notices which process died first, and ends this one
        if (message := explain(error)) is not None:
            raise UserError(message) from error
        raise


def _share_threads(processes: int) -> None:
    """Divides torch's threads among the processes of this machine, unless the user has set OpenMP's number.

    Two processes with two threads each on two cores take eight times as long as with one each.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        import torch

        torch.set_num_threads(max(torch.get_num_threads() // processes, 1))


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    time.sleep(_GRACE_S)  # the first process may be writing a checkpoint, for which it needs the others
    os._exit(1)


# ---- processes that torchrun or srun started ----


def refuse_sweep(arguments: Sequence[str]) -> None:
    """Raises `UserError` for a sweep under torchrun or srun, whose processes are there for one run.

    In the first process: the others just end.
    """
    if rank() < 0:
        return
    from hydra._internal.utils import get_args_parser

    given, _ = get_args_parser().parse_known_args(list(arguments))
    if not (given.multirun or "hydra.mode=MULTIRUN" in arguments):
        return
    if rank() > 0:
        sys.exit()  # not 2: torchrun would end the first process, perhaps before its message
    raise UserError(
        "A sweep (-m) cannot run inside torchrun or srun. Start it without them: hydra/launcher=submitit_slurm makes"
        " each run a job of Slurm's, and trainer=ddp trainer.devices=N gives each run N processes on this machine."
    )


Announce = Callable[[Config, Path], None]


@contextmanager
def announcing() -> Iterator[Announce]:
    """In the first process a function that sends config and folder of the job to the others; elsewhere it does nothing.

    Where the block ends without a job, the others end too.
    """
    if rank() != 0:
        yield lambda config, folder: None
        return
    store = _open_store()

    def announce(config: Config, folder: Path) -> None:
        port = _free_port()
        _use_port(port)
        store.set(_key("job"), json.dumps({"config": config, "folder": str(folder.absolute()), "port": port}))

    try:
        yield announce
    finally:
        if not store.check([_key("job")]):
            store.set(_key("job"), "")
        _wait_for_readers(store)


def follow(job: Job) -> None:
    """Runs the job of the first process, without a word; nothing where that one ends before it has a job."""
    _be_quiet()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes, and the first one decides
    try:
        store = _open_store()
    except UserError:  # the first process reports it
        sys.exit(2)
    store.wait([_key("job")], _START)
    text = store.get(_key("job")).decode()
    store.add(_key("read"), 1)
    if not text:
        return
    received = json.loads(text)
    _use_port(received["port"])
    with ending_after_first(store):
        try:
            job(received["config"], Path(received["folder"]))
        except UserError as error:
            sys.stderr.write(f"error: {error}\n")
        except Exception as error:
            if not lost_another(error):
                logging.getLogger(__name__).exception("a process of the run failed")


@contextmanager
def ending_after_first(store: "Store") -> Iterator[None]:
    """Ends this process where it is still in the block half a minute after the first process and its store are gone.

    It may wait inside of torch, where no exception reaches it. Under torchrun the store is torchrun's, which ends
    its processes itself.
    """
    over = threading.Event()

    def watch() -> None:
        while not over.wait(1.0):
            try:
                store.check([_key("job")])
            except RuntimeError:
                if not over.wait(_GRACE_S):
                    os._exit(1)
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _open_store() -> "TCPStore":
    """Raises `UserError` where Slurm was not told how many tasks a machine gets."""
    under_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    if not under_torchrun and "SLURM_NTASKS_PER_NODE" not in os.environ:
        raise UserError(
            f"Slurm was asked for --ntasks={os.environ['SLURM_NTASKS']}, which leaves open how many of them a"
            " machine gets: give --ntasks-per-node=NUMBER and --nodes=NUMBER."
        )
    from torch.distributed import TCPStore

    if under_torchrun:  # its agent keeps a store
        return TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    from pytorch_lightning.plugins.environments import SLURMEnvironment

    # Below the ports that systems give away, and another one for each step of the jobs that share a machine.
    port = 10000 + (100 * int(os.environ["SLURM_JOB_ID"]) + int(os.environ["SLURM_STEP_ID"])) % 20000
    return TCPStore(SLURMEnvironment().main_address, port, is_master=rank() == 0, wait_for_workers=False)


def _wait_for_readers(store: "TCPStore") -> None:
    """The store ends with this process under Slurm; not for ever, because another process may have died."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return
    deadline = time.monotonic() + _READ_S
    while store.add(_key("read"), 0) < int(os.environ["SLURM_NTASKS"]) - 1 and time.monotonic() < deadline:
        time.sleep(0.05)


def _key(name: str) -> str:
    """Differs each time that torchrun starts all processes again."""
    return f"segmentation/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{name}"


def _use_port(port: int) -> None:
    """Where torch's processes meet: neither torchrun's own store, nor Slurm's port, which steps of a job share."""
    os.environ |= {"MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "False"}


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        port: int = free.getsockname()[1]
        return port


def _be_quiet() -> None:
    """The first process alone reports."""
    logging.disable(logging.INFO)
    warnings.simplefilter("ignore")
