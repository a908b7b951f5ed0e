"""Layouts of files by name: each reader returns the `FoundFiles` of a folder, which `splits.divide` divides."""

from collections.abc import Callable

from segmentation.data.dataset import FoundFiles
from segmentation.data.layouts.folders import binary, folder
from segmentation.data.layouts.voc import voc

LAYOUTS: dict[str, Callable[..., FoundFiles]] = {
    "binary": binary,
    "camvid": folder,  # its classes are in conf/dataset/camvid.yaml
    "folder": folder,
    "voc": voc,
}
"""A reader's keyword parameters are its own options; one with a positional parameter gets `ClassOptions` there."""
