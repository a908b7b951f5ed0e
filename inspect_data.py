"""Command line: `python inspect_data.py --help`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segmentation.cli import compose, script
from segmentation.cli.overrides import quote_paths


@script("inspect")
def main(config: Mapping[str, Any], folder: Path) -> float:
    """Look for faults in a data set before training on it: files, masks, labels, duplicates, splits; and plan its run.

    Examples:
      python inspect_data.py dataset.root=PATH
      python inspect_data.py dataset=voc dataset.root=PATH format=json      for programs: every file of each finding
      python inspect_data.py dataset=binary dataset.root=PATH strict=true skip=[near-duplicate-across-splits]
    The exit status is 2 where a training would be wrong.
    """
    from segmentation.config import read_inspection_settings
    from segmentation.data.findings import KINDS
    from segmentation.doctor import inspect

    settings = read_inspection_settings(config, KINDS)
    return inspect(settings, compose("train"), folder)


if __name__ == "__main__":
    quote_paths(
        *("output", "dataset.root", "dataset.split", "dataset.classes"),
        *("dataset.images", "dataset.masks", "dataset.group", "dataset.stratify"),
    )
    main()
