"""What the scripts share: composing a config, help for people, short messages for mistakes."""

from segmentation.cli.compose import compose
from segmentation.cli.script import script

__all__ = ["compose", "script"]
