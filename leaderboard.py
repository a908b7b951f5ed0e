"""Command line: `python leaderboard.py --help`."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segmentation.cli import script
from segmentation.cli.overrides import quote_paths


@script("leaderboard")
def main(config: Mapping[str, Any], folder: Path) -> float:
    """Put all runs under a folder into one table: who is best, by how much, at what cost, and what failed.

    Examples:
      python leaderboard.py runs=outputs/sweeps/NAME
      python leaderboard.py runs=[ONE,OTHER]                                   several folders in one table
      python leaderboard.py runs=outputs metric=test/miou latency=0 output=boards
      python leaderboard.py runs=outputs/sweeps/NAME benchmarks=outputs/benchmark/DATE_TIME
    """
    from segmentation.leaderboard import leaderboard

    return leaderboard(config)


if __name__ == "__main__":
    # A list of folders is Hydra's to read.
    lists = any(argument.startswith("runs=[") for argument in sys.argv)
    quote_paths("benchmarks", "output", *(() if lists else ("runs",)))
    main()
