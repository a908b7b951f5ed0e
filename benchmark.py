"""Command line: `python benchmark.py --help`."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segmentation.cli import script
from segmentation.cli.overrides import quote_paths


def table(folder: Path) -> str:
    """Writes the table and the picture of the results under `folder`; the text is for the console."""
    from segmentation.benchmark import gather

    return gather(folder)


@script("benchmark", gather=table)
def main(config: Mapping[str, Any], folder: Path) -> float:
    """Measure a model as training and prediction would use it: size, work, memory and speed, on GPU or CPU.

    Examples:
      python benchmark.py backbone=resnet18                          one model
      python benchmark.py -m 'backbone=glob(*)' head=deeplabv3       all backbones: one table and a picture
      python benchmark.py -m backbone=resnet18,resnet50 runs=outputs/sweeps/camvid    speed against their mIoU
    """
    from segmentation.benchmark import benchmark

    return benchmark(config, folder)


if __name__ == "__main__":
    # A list of folders is Hydra's to read.
    lists = any(argument.startswith("runs=[") for argument in sys.argv)
    quote_paths("hydra.run.dir", "hydra.sweep.dir", *(() if lists else ("runs",)))
    main()
