"""inspect_data.py: images per second of one core, and what many files take in time and memory.

    python perf/doctor.py
    python perf/doctor.py --images 500 --many 100000

The rate is of 480x360 JPEGs with PNG masks, in seconds of the processor, so that a busy machine changes it little. The
many files are 64x64 PNGs that all differ, with masks that are links to a few. A process of its own inspects them; its
peak memory is given beside what it had before it began.
"""

import io
import json
import os
import subprocess
import sys
import time
from argparse import SUPPRESS, Namespace
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from measure import options, parse, print_table

_SIDE = 64
_MASKS = 50  # different ones


def main() -> None:
    """Print the table."""
    parser = options(__doc__ or "", rounds=3)
    parser.add_argument("--images", type=int, default=300, help="photographs for the rate")
    parser.add_argument("--many", type=int, default=100_000, help="small files for time and memory")
    parser.add_argument("--inspect", type=Path, help=SUPPRESS)  # what the process of its own is started with
    parser.set_defaults(threads=1)
    if "--inspect" in sys.argv:
        print(json.dumps(_inspect(parser.parse_args().inspect)))
        return
    args = parse(parser)
    with TemporaryDirectory() as folder:
        rates = _rates(args, Path(folder) / "photographs")
        lines = [f"| images/s per core, objects of {args.images} masks measured | {max(rates):.0f} |"]
        for count in (args.many // 10, args.many):
            _make_many(Path(folder) / str(count), count)
            lines += _many(Path(folder) / str(count), count)
    table = "\n".join(["| what | value |", "| --- | --- |", *lines])
    print_table(
        table,
        f"Best of {args.rounds} rounds by processor time, one thread; {args.many} files of {_SIDE}x{_SIDE}.",
    )


def _rates(args: Namespace, folder: Path) -> list[float]:
    import cv2
    from photographs import make_folder

    from segmentation.data import create_dataset
    from segmentation.doctor.scan import scan

    cv2.setNumThreads(1)
    make_folder(folder, train=args.images)
    dataset = create_dataset(name="binary", root=str(folder))
    total = sum(map(len, dataset.splits().values()))
    seconds = [_processor_time(partial(scan, dataset, 1)) for _ in range(args.rounds)]
    return [total / each for each in seconds]


def _processor_time(run: Callable[[], Any]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def _make_many(folder: Path, count: int) -> None:
    import cv2

    random = np.random.default_rng(0)
    images, masks = folder / "images", folder / "masks"
    images.mkdir(parents=True)
    masks.mkdir()
    for number in range(count):
        coarse = random.integers(0, 256, (8, 8, 3), np.uint8)
        picture = cv2.resize(coarse, (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(images / f"{number:07}.png"), picture, [cv2.IMWRITE_PNG_COMPRESSION, 0])
        mask = masks / f"{number:07}.png"
        if number < _MASKS:
            values = np.zeros((_SIDE, _SIDE), np.uint8)
            values[number % 8 : 40, 4:44] = 255
            cv2.imwrite(str(mask), values)
        else:
            os.link(masks / f"{number % _MASKS:07}.png", mask)


def _many(folder: Path, count: int) -> list[str]:
    command = [sys.executable, __file__, "--inspect", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, reading, before, peak = json.loads(done.stdout)
    return [
        f"| {count} files: processor time, of which reading them | {seconds:.0f} s, {reading:.0f} s |",
        f"| {count} files: peak memory, beside that of the imports | {peak - before:.0f} MB, {before:.0f} MB |",
    ]


def _inspect(folder: Path) -> tuple[float, float, float, float]:
    """Seconds of the processor for all and for reading, and the process's memory before and at its peak, in MB."""
    from segmentation.cli import compose
    from segmentation.config import read_inspection_settings
    from segmentation.data import create_dataset
    from segmentation.data.findings import KINDS
    from segmentation.doctor import inspect
    from segmentation.doctor.scan import scan

    training = compose("train")
    config = compose("inspect", "dataset=binary", f"dataset.root='{folder}'", "output=unused", "workers=1")
    settings = read_inspection_settings(config, KINDS)
    before = peak_memory()
    with redirect_stdout(io.StringIO()):
        seconds = _processor_time(partial(inspect, settings, training, folder))
    peak = peak_memory()
    dataset = create_dataset(name="binary", root=str(folder))
    return seconds, _processor_time(partial(scan, dataset, 1)), before, peak


def peak_memory() -> float:
    """The most memory that this process has had, in MB."""
    # Not ru_maxrss, which a new process takes over from the one that started it.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    main()
