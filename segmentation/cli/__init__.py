"""What the scripts share: composing a config, help, one run or a sweep of runs, short messages for mistakes."""

from segmentation.cli.main import script
from segmentation.cli.overrides import compose

__all__ = ["compose", "script"]
