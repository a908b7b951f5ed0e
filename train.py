"""Command line: `python train.py --help`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segmentation.cli import script
from segmentation.cli.overrides import quote_paths


@script("train")
def main(config: Mapping[str, Any], folder: Path) -> float:
    """Train a DeepLabV3 model, test its best checkpoint, and leave a run folder with all of it in outputs/.

    Examples:
      python train.py                                             built-in data, a few minutes, no network
      python train.py dataset.root=PATH                           your data: what lies there is recognised
      python train.py dataset=camvid dataset.root=PATH backbone=resnet18 weights=imagenet
      python train.py resume=outputs/shapes_resnet18/DATE_TIME    go on where a run stopped
    """
    from segmentation.planner import prepare

    config, dataset = prepare(config, folder)
    # After the data: torch and Lightning take seconds that a wrong path should not cost.
    from segmentation.train import train

    return train(config, dataset, folder)


if __name__ == "__main__":
    quote_paths(
        *("dataset.root", "dataset.split", "dataset.classes", "weights", "resume"),
        *("dataset.images", "dataset.masks", "dataset.file", "dataset.group", "dataset.stratify"),
        *("hydra.run.dir", "hydra.sweep.dir"),
    )
    main()
