"""Several processes against several threads on the same cores, and the fixed cost of a job in a sweep.

    python perf/processes.py
    python perf/processes.py --set backbone=resnet18 data.size=[256,256] --jobs 5

The first table has images per second in the last epoch of `python train.py` on the built-in data: one process of N
threads against N processes of one thread, with the same batch size. The second has the seconds that one more job adds
to `python train.py -m seed=1,2,...` if a job is a single step: data, model, validation and report, without imports.
"""

import os
import subprocess
import sys
import time
from argparse import Namespace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from measure import ROOT, alternate, comparison, markdown, options, parse, print_table, spread

_OPTIONS = (
    *("backbone=mobilenetv3_small", "data.workers=0", "trainer.accelerator=cpu", "callbacks.grid.images=0"),
    *("dataset.val=8", "dataset.test=8", "logger=none"),
)
_ONE_STEP = ("trainer.limit_train_batches=1", "trainer.max_epochs=1")


def main() -> None:
    """Print both tables."""
    parser = options(__doc__ or "")
    parser.add_argument("--images", type=int, default=160, help="images per epoch")
    parser.add_argument(
        "--jobs", type=int, default=3, help="jobs of the longer of two sweeps, 2 or more; 0: no second table"
    )
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="more options of train.py")
    args = parse(parser)
    several = max(args.threads, 2)
    speeds = alternate(
        {
            f"1 process, {several} threads": partial(_speed, args, 1, several),
            f"{several} processes, 1 thread each": partial(_speed, args, several, 1),
        },
        args.rounds,
    )
    tables = [comparison(speeds, (next(iter(speeds)),), "images/s", "cpu")]
    if args.jobs:
        starts = alternate(
            {
                "in 1 process": partial(_one_more, args, 1),
                f"in {several} processes": partial(_one_more, args, several),
            },
            args.rounds,
        )
        rows = [[name, f"{median(values):.2f}", f"{spread(values):.0%}"] for name, values in starts.items()]
        tables.append(markdown(["one more job of a sweep", "seconds", "spread"], rows))
    print_table("\n\n".join(tables), "Images/s: more is better. Seconds: less is better.")


def _speed(args: Namespace, processes: int, threads: int) -> float:
    from segmentation.callbacks.history import read_history

    with TemporaryDirectory() as folder:
        size = (f"dataset.train={args.images}", "trainer.max_epochs=2", f"hydra.run.dir={folder}")
        _train(args, *size, *_strategy(processes), threads=threads)
        return read_history(Path(folder, "metrics.csv"))[-1]["train/images_per_second"]


def _one_more(args: Namespace, processes: int) -> float:
    """Seconds that a job adds to a sweep: the difference of two sweeps, so that start-up does not count."""
    seconds = {}
    for jobs in (1, args.jobs):
        with TemporaryDirectory() as folder:
            seeds = ",".join(map(str, range(1, jobs + 1)))
            sweep = ("-m", f"seed={seeds}", f"hydra.sweep.dir={folder}/sweep", *_ONE_STEP)
            begun = time.perf_counter()
            _train(args, *sweep, *_strategy(processes), threads=1)
            seconds[jobs] = time.perf_counter() - begun
    return (seconds[args.jobs] - seconds[1]) / (args.jobs - 1)


def _strategy(processes: int) -> tuple[str, ...]:
    return ("trainer=ddp", f"trainer.devices={processes}") if processes > 1 else ()


def _train(args: Namespace, *arguments: str, threads: int) -> None:
    subprocess.run(
        [sys.executable, "train.py", *arguments, *_OPTIONS, *args.set],
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )


if __name__ == "__main__":
    main()
