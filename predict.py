"""Command line: `python predict.py --help`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segmentation.cli import script
from segmentation.cli.overrides import quote_paths


@script("predict")
def main(config: Mapping[str, Any], folder: Path) -> float:
    """Use a trained checkpoint on pictures, folders, videos, cameras, and images larger than memory.

    Examples:
      python predict.py checkpoint=RUN/checkpoints/best.ckpt input=photo.jpg output=out
      python predict.py checkpoint=BEST.ckpt input='shots/**/*.png' output=out save=[mask,overlay,probability]
      python predict.py checkpoint=BEST.ckpt input=orthophoto.tif output=out tile=1024 overlap=128
      python predict.py checkpoint=BEST.ckpt input=video.mp4 output=out
    """
    from segmentation.predict import predict

    return predict(config)


if __name__ == "__main__":
    quote_paths("checkpoint", "input", "output")
    main()
