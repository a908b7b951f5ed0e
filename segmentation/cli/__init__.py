"""What the scripts share: composing a config, help for people, short messages for mistakes."""

from segmentation.cli.main import script
from segmentation.cli.overrides import compose

__all__ = ["compose", "script"]
