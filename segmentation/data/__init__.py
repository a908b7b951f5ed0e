"""Data sets by name. Nothing here imports torch, so that broken data is reported at once."""

from collections.abc import Callable
from typing import Any

from segmentation.data.binary import binary
from segmentation.data.checks import check
from segmentation.data.folder import folder
from segmentation.data.shapes import shapes
from segmentation.data.source import Source
from segmentation.data.voc import voc
from segmentation.options import create

SOURCES: dict[str, Callable[..., Source]] = {
    "binary": binary,
    "folder": folder,
    "shapes": shapes,
    "voc": voc,
}

__all__ = ["SOURCES", "Source", "create_source", "open_source"]


def create_source(channels: int = 3, /, *, name: str, **options: Any) -> Source:
    """The data set of `SOURCES` with this name and these options, its images of `channels` bands.

    Raises `UserError` for a name or an option that does not exist and for data that cannot be used.
    """
    return create("dataset", SOURCES, name, channels, **options)


def open_source(channels: int = 3, /, *, name: str, **options: Any) -> Source:
    """`create_source`, and a look at samples of every split: what a run should start from."""
    source = create_source(channels, name=name, **options)
    check(source)
    return source
