"""Layouts of files by name: each reader returns the `FoundFiles` of a folder, which `splits.divide` divides."""

from collections.abc import Callable

from segmentation.data.dataset import FoundFiles
from segmentation.data.layouts.benchmarks import ade20k, cityscapes, pets
from segmentation.data.layouts.class_tables import class_dict, roboflow
from segmentation.data.layouts.folders import binary, folder
from segmentation.data.layouts.pairs import pairs
from segmentation.data.layouts.table import csv
from segmentation.data.layouts.voc import voc

LAYOUTS: dict[str, Callable[..., FoundFiles]] = {
    "ade20k": ade20k,
    "binary": binary,
    "camvid": folder,  # its classes are in conf/dataset/camvid.yaml
    "cityscapes": cityscapes,
    "class_dict": class_dict,
    "csv": csv,
    "folder": folder,
    "pairs": pairs,
    "pets": pets,
    "roboflow": roboflow,
    "voc": voc,
}
"""A reader's keyword parameters are its own options; one with a positional parameter gets `ClassOptions` there."""
