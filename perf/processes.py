"""What several processes gain on the cores of one, and what each job of a sweep pays before it trains.

    python perf/processes.py
    python perf/processes.py --set backbone=resnet18 data.size=[256,256] --jobs 5

The first table: images a second in the last epoch of `python train.py` on the built-in data, with as many threads in
one process as there are processes of one thread beside it, the batch the same. The second: seconds that one more job
adds to `python train.py -m seed=1,2,...` whose jobs take a single step: data, model, validation, report; no imports.
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

from measure import ROOT, alternate, begin, comparison, markdown, options, show, spread

_OPTIONS = (
    *("backbone=mobilenetv3_small", "data.workers=0", "trainer.accelerator=cpu", "callbacks.grid.images=0"),
    *("dataset.val=8", "dataset.test=8", "logger=none"),
)
_ONE_STEP = ("trainer.limit_train_batches=1", "trainer.max_epochs=1")


def main() -> None:
    """Prints both tables."""
    parser = options(__doc__ or "")
    parser.add_argument("--images", type=int, default=160, help="to an epoch")
    parser.add_argument(
        "--jobs", type=int, default=3, help="of the longer of two sweeps, 2 or more; 0 leaves them out"
    )
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="more options of train.py")
    chosen = begin(parser)
    several = max(chosen.threads, 2)
    speeds = alternate(
        {
            f"1 process, {several} threads": partial(_speed, chosen, 1, several),
            f"{several} processes, 1 thread each": partial(_speed, chosen, several, 1),
        },
        chosen.rounds,
    )
    tables = [comparison(speeds, (next(iter(speeds)),), "images/s", "cpu")]
    if chosen.jobs:
        starts = alternate(
            {
                "in 1 process": partial(_one_more, chosen, 1),
                f"in {several} processes": partial(_one_more, chosen, several),
            },
            chosen.rounds,
        )
        rows = [[name, f"{median(values):.2f}", f"{spread(values):.0%}"] for name, values in starts.items()]
        tables.append(markdown(["one more job of a sweep", "seconds", "spread"], rows))
    show("\n\n".join(tables), "Images/s: more is better. Seconds: less is better.")


def _speed(chosen: Namespace, processes: int, threads: int) -> float:
    from segmentation.callbacks.history import read_history

    with TemporaryDirectory() as folder:
        size = (f"dataset.train={chosen.images}", "trainer.max_epochs=2", f"hydra.run.dir={folder}")
        _train(chosen, *size, *_spread(processes), threads=threads)
        return read_history(Path(folder, "metrics.csv"))[-1]["train/images_per_second"]


def _one_more(chosen: Namespace, processes: int) -> float:
    """What a job adds to a sweep: the difference of two, so that neither imports nor the command count."""
    seconds = {}
    for jobs in (1, chosen.jobs):
        with TemporaryDirectory() as folder:
            seeds = ",".join(map(str, range(1, jobs + 1)))
            sweep = ("-m", f"seed={seeds}", f"hydra.sweep.dir={folder}/sweep", *_ONE_STEP)
            begun = time.perf_counter()
            _train(chosen, *sweep, *_spread(processes), threads=1)
            seconds[jobs] = time.perf_counter() - begun
    return (seconds[chosen.jobs] - seconds[1]) / (chosen.jobs - 1)


def _spread(processes: int) -> tuple[str, ...]:
    return ("trainer=ddp", f"trainer.devices={processes}") if processes > 1 else ()


def _train(chosen: Namespace, *arguments: str, threads: int) -> None:
    subprocess.run(
        [sys.executable, "train.py", *arguments, *_OPTIONS, *chosen.set],
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )


if __name__ == "__main__":
    main()
