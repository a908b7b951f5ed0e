"""Kill -9 at random moments of a run, resumed each time: it must end like the run that was left alone.

    python perf/kills.py
    python perf/kills.py --kills 100 --epochs 200 --seed 3

Every second kill waits until a checkpoint is being written. After each kill all checkpoints are read. A run that was
killed before its first checkpoint starts again in the same folder. To save time, processes are forks of one that has
imported the libraries; then they run `train.py`.
"""

import contextlib
import csv
import json
import multiprocessing
import os
import random
import runpy
import sys
import time
from argparse import ArgumentParser
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory

from measure import ROOT, markdown, print_table

_SMALL = (
    *("backbone=mobilenetv3_small", "head=lraspp", "dataset.size=48", "dataset.train=6", "dataset.val=2"),
    *("dataset.test=2", "data.size=[48,48]", "data.batch_size=2", "data.workers=0", "precision=32-true"),
    *("augmentation=standard", "callbacks.ema_decay=0.9", "callbacks.grid.images=0"),
)
_FORKSERVER = multiprocessing.get_context("forkserver")


def main() -> None:
    """Print the table; raises `AssertionError` if a run ended differently or a checkpoint was lost."""
    parser = ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    _FORKSERVER.set_forkserver_preload(["segmentation.training", "segmentation.cli.sweep"])
    moments = random.Random(args.seed)
    with TemporaryDirectory() as parent:
        whole, cut = Path(parent, "whole"), Path(parent, "cut")
        options = [*_SMALL, f"trainer.max_epochs={args.epochs}", f"hydra.run.dir={whole}"]
        process = _start(options, whole)
        begun = time.monotonic()
        process.join()
        assert process.exitcode == 0, _log(whole)
        seconds = time.monotonic() - begun
        options[-1] = f"hydra.run.dir={cut}"
        kills = []
        while len(kills) < args.kills:
            pause = moments.uniform(0, 1.5 * seconds / args.kills)
            killed = _kill(_resume_options(options, cut), cut, pause, in_writing=len(kills) % 2 == 1)
            if killed is None:
                break
            kills.append(killed)
        process = _start(_resume_options(options, cut), cut)
        process.join()
        assert process.exitcode == 0, _log(cut)
        _check_same(cut, whole)
    rows = [
        [str(number), f"{pause:.2f}", "yes" if writing else "no", str(epochs), str(readable)]
        for number, (pause, writing, epochs, readable) in enumerate(kills, 1)
    ]
    heads = [
        "kill",
        "seconds after the start",
        "checkpoint half written",
        "complete epochs",
        "readable checkpoints",
    ]
    print_table(
        markdown(heads, rows),
        f"{len(kills)} kills of {args.kills}; no checkpoint was unreadable; weights, history and scores at the end"
        f" are those of the run left alone, {args.epochs} epochs in {seconds:.1f} s.",
    )


def _resume_options(options: list[str], folder: Path) -> list[str]:
    return [f"resume={folder}"] if (folder / "checkpoints" / "last.ckpt").exists() else options


def _start(options: list[str], folder: Path) -> BaseProcess:
    """Start `train.py`; returns its process when it is about to train."""
    log = folder.with_suffix(".log")
    log.write_text("")
    process = _FORKSERVER.Process(target=_train, args=(options, log))
    process.start()
    while "model:" not in log.read_text():
        assert process.exitcode in (None, 0), _log(folder)
        time.sleep(0.01)
    return process


def _train(options: list[str], log: Path) -> None:
    for stream in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND), stream)
    os.chdir(ROOT)
    sys.argv = ["train.py", *options]
    runpy.run_path("train.py", run_name="__main__")


def _kill(
    options: list[str], folder: Path, pause: float, *, in_writing: bool
) -> tuple[float, bool, int, int] | None:
    """Seconds until the kill, whether a checkpoint was half written, complete epochs and readable checkpoints.

    None if the run ended before the kill.
    """
    process = _start(options, folder)
    begun = time.monotonic()
    process.join(pause)
    while in_writing and process.exitcode is None and not list(folder.glob("checkpoints/*.part")):
        pass
    process.kill()
    seconds = time.monotonic() - begun
    process.join()
    if process.exitcode == 0:
        return None
    parts = list(folder.glob("checkpoints/*.part"))
    # A resumed run removes partial files.
    return seconds, bool(parts), len(_history(folder)), _read_all(folder)


def _read_all(folder: Path) -> int:
    from segmentation.checkpoint import read

    paths = sorted(folder.glob("checkpoints/*.ckpt"))
    for path in paths:
        read(path)
    return len(paths)


def _history(folder: Path) -> list[dict[str, str]]:
    with contextlib.suppress(FileNotFoundError), (folder / "metrics.csv").open(newline="") as file:
        return [
            {name: value for name, value in row.items() if not name.endswith("images_per_second")}
            for row in csv.DictReader(file)
        ]
    return []


def _check_same(folder: Path, whole: Path) -> None:
    import torch

    from segmentation.checkpoint import read

    assert _history(folder) == _history(whole)
    reports = [json.loads((path / "report.json").read_text()) for path in (folder, whole)]
    for name, value in reports[0]["metrics"].items():
        assert name.endswith("images_per_second") or value == reports[1]["metrics"][name], name
    for name in ("best", "best_loss", "last"):
        first, second = (
            read(path / "checkpoints" / f"{name}.ckpt")["state_dict"] for path in (folder, whole)
        )
        assert all(torch.equal(value, second[key]) for key, value in first.items()), name


def _log(folder: Path) -> str:
    return folder.with_suffix(".log").read_text()


if __name__ == "__main__":
    main()
