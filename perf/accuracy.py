"""Accuracy in bf16: the same runs of train.py in fp32 and in bf16, with one seed per round.

    python perf/accuracy.py --set experiment=camvid_resnet18 dataset.root=PATH trainer.max_epochs=10

The note under the table says for how many pixels of the test split a model trained in fp32 gives the same label in
bf16. On a processor without bf16 its rounding is emulated in fp32 (`bf16.py`): this measures accuracy, not speed.
"""

import json
import statistics
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from measure import markdown, options, parse, print_table

_PRECISIONS = ("32-true", "bf16-mixed")
_SCORES = ("val/miou", "test/miou")


def main() -> None:
    """Print the table."""
    parser = options(__doc__ or "", rounds=3)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="options of train.py")
    args = parse(parser)
    with TemporaryDirectory() as folder:
        seeds = range(1, args.rounds + 1)
        runs = {
            seed: [_train(Path(folder), seed, precision, args) for precision in _PRECISIONS] for seed in seeds
        }
        agreement = _agreement(runs[1][0], args)
        rows = [_scores(pair) for pair in runs.values()]
    table = [_line(f"seed {seed}", row) for seed, row in zip(seeds, rows, strict=True)]
    columns = list(zip(*rows, strict=True))
    table.append(_line("mean", [statistics.mean(column) for column in columns]))
    if len(rows) > 1:
        table.append(_line("standard deviation", [statistics.stdev(column) for column in columns]))
    heads = [f"{score}, {precision}" for score in _SCORES for precision in _PRECISIONS]
    print_table(markdown(["", *heads], table), f"The model of seed 1, trained in fp32, {agreement}.")


def _train(folder: Path, seed: int, precision: str, args: Namespace) -> Path:
    """Train once; returns the run folder."""
    from bf16 import fast_bf16
    from ours import open_settings

    from segmentation.training import train

    config = _config(args, f"seed={seed}", f"precision={precision}")
    run = folder / precision / str(seed)
    run.mkdir(parents=True)
    with fast_bf16(args.device):
        train(config, open_settings(config)[1], run)
    return run


def _agreement(run: Path, args: Namespace) -> str:
    from bf16 import fast_bf16
    from ours import open_settings

    import segmentation

    full, less = (
        segmentation.load(run / "checkpoints" / "best.ckpt", device=args.device, precision=precision)
        for precision in _PRECISIONS
    )
    same = pixels = 0
    with fast_bf16(args.device):
        for sample in open_settings(_config(args))[1].test:
            first, second = (predictor.predict(sample["image"]).mask for predictor in (full, less))
            same += int((first == second).sum())
            pixels += first.size
    return f"gives {same / pixels:.3%} of the test split's pixels the same label in bf16"


def _config(args: Namespace, *overrides: str) -> dict[str, Any]:
    from segmentation.cli import compose

    return compose("train", f"trainer.accelerator={args.device}", *args.set, *overrides)


def _scores(pair: Sequence[Path]) -> list[float]:
    """In the order of `_SCORES`, each in the order of `_PRECISIONS`."""
    reports = [json.loads((run / "report.json").read_text())["metrics"] for run in pair]
    return [report[score] for score in _SCORES for report in reports]


def _line(name: str, values: Sequence[float]) -> list[str]:
    return [name, *(f"{value:.4f}" for value in values)]


if __name__ == "__main__":
    main()
