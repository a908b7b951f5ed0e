"""Command line: `python export.py --help`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segmentation.cli import script
from segmentation.cli.overrides import quote_paths


@script("export")
def main(config: Mapping[str, Any], folder: Path) -> float:
    """Make one file of a checkpoint that runs without this project, and certify that it answers the same.

    Examples:
      python export.py checkpoint=RUN/checkpoints/best.ckpt                    best.onnx and best.json beside it
      python export.py checkpoint=BEST.ckpt output=model.onnx layout=nchw outputs=[labels,probabilities]
      python export.py checkpoint=BEST.ckpt push=user/name licence=apache-2.0  to the Hugging Face hub, with a card
      python export.py checkpoint=BEST.ckpt verify=DATA split=test             its scores before and after, too
    """
    from segmentation.config import read_export_settings

    settings = read_export_settings(config)
    # After the options: torch takes seconds that a wrong path should not cost.
    from segmentation.export import export

    return export(settings)


if __name__ == "__main__":
    quote_paths("checkpoint", "output", "verify")
    main()
