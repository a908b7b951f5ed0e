"""What bf16 costs in accuracy: the same runs of train.py in fp32 and in bf16, each round with a seed of its own.

    python perf/accuracy.py --set experiment=camvid_resnet18 dataset.root=PATH trainer.max_epochs=10

Under the table: how often a model trained in fp32 gives the same label to a pixel of the test split in bf16. Where a
processor has no bf16 its rounding is computed in fp32 (`bf16.py`): its accuracy is measured, its speed is not.
"""

import json
import statistics
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from measure import begin, markdown, options, show

_PRECISIONS = ("32-true", "bf16-mixed")
_SCORES = ("val/miou", "test/miou")


def main() -> None:
    """Prints the table."""
    parser = options(__doc__ or "", rounds=3)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="options of train.py")
    chosen = begin(parser)
    with TemporaryDirectory() as folder:
        seeds = range(1, chosen.rounds + 1)
        runs = {
            seed: [_train(Path(folder), seed, precision, chosen) for precision in _PRECISIONS]
            for seed in seeds
        }
        agreement = _agreement(runs[1][0], chosen)
        rows = [_scores(pair) for pair in runs.values()]
    table = [_line(f"seed {seed}", row) for seed, row in zip(seeds, rows, strict=True)]
    columns = list(zip(*rows, strict=True))
    table.append(_line("mean", [statistics.mean(column) for column in columns]))
    if len(rows) > 1:
        table.append(_line("standard deviation", [statistics.stdev(column) for column in columns]))
    heads = [f"{score}, {precision}" for score in _SCORES for precision in _PRECISIONS]
    show(markdown(["", *heads], table), f"The model of seed 1, trained in fp32, {agreement}.")


def _train(folder: Path, seed: int, precision: str, chosen: Namespace) -> Path:
    """The folder of a whole run."""
    from bf16 import bf16
    from ours import open_settings

    from segmentation.train import train

    config = _config(chosen, f"seed={seed}", f"precision={precision}")
    run = folder / precision / str(seed)
    run.mkdir(parents=True)
    with bf16(chosen.device):
        train(config, open_settings(config)[1], run)
    return run


def _agreement(run: Path, chosen: Namespace) -> str:
    from bf16 import bf16
    from ours import open_settings

    import segmentation

    full, less = (
        segmentation.load(run / "checkpoints" / "best.ckpt", device=chosen.device, precision=precision)
        for precision in _PRECISIONS
    )
    same = pixels = 0
    with bf16(chosen.device):
        for sample in open_settings(_config(chosen))[1].test:
            first, second = (predictor.predict(sample["image"]).mask for predictor in (full, less))
            same += int((first == second).sum())
            pixels += first.size
    return f"gives {same / pixels:.3%} of the test split's pixels the same label in bf16"


def _config(chosen: Namespace, *overrides: str) -> dict[str, Any]:
    from segmentation.cli import compose

    return compose("train", f"trainer.accelerator={chosen.device}", *chosen.set, *overrides)


def _scores(pair: Sequence[Path]) -> list[float]:
    """As `_SCORES` and `_PRECISIONS` have them."""
    reports = [json.loads((run / "report.json").read_text())["metrics"] for run in pair]
    return [report[score] for score in _SCORES for report in reports]


def _line(name: str, values: Sequence[float]) -> list[str]:
    return [name, *(f"{value:.4f}" for value in values)]


if __name__ == "__main__":
    main()
