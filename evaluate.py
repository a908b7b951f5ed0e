"""Command line: `python evaluate.py --help`."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segmentation.cli import script
from segmentation.cli.overrides import quote_paths


@script("evaluate")
def main(config: Mapping[str, Any], folder: Path) -> float:
    """Judge checkpoints on a data set: every score, curves, the worst and the best images, in one report.html.

    Examples:
      python evaluate.py checkpoint=RUN/checkpoints/best.ckpt                  on the data of its training
      python evaluate.py checkpoint=RUN/checkpoints/best.ckpt dataset=voc dataset.root=PATH split=val tta=flip
      python evaluate.py checkpoint=[ONE.ckpt,OTHER.ckpt]                      side by side, by one protocol
    """
    from segmentation.config import read_evaluation_settings

    settings = read_evaluation_settings(config)
    # After the options: torch takes seconds that a wrong path should not cost.
    from segmentation.evaluate import evaluate

    return evaluate(settings, folder)


if __name__ == "__main__":
    # A list of checkpoints, and of the jobs of a sweep, is Hydra's to read.
    lists = any(argument.startswith("checkpoint=[") for argument in sys.argv) or {"-m", "--multirun"} & {
        *sys.argv
    }
    quote_paths(
        *("output", "dataset.root", "dataset.split", "dataset.classes"),
        *("dataset.images", "dataset.masks", "dataset.file", "dataset.group", "dataset.stratify"),
        *(() if lists else ("checkpoint",)),
    )
    main()
