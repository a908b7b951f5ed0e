"""Layouts of files by name: each reader returns the `FoundFiles` of a folder, which `splits.divide` divides."""

from collections.abc import Callable

from segmentation.data.dataset import FoundFiles
from segmentation.data.layouts.benchmarks import ade20k, cityscapes, pets, regions
from segmentation.data.layouts.class_tables import class_dict, roboflow
from segmentation.data.layouts.coco import coco
from segmentation.data.layouts.cvat import cvat
from segmentation.data.layouts.folders import binary, folder
from segmentation.data.layouts.labelme import labelme
from segmentation.data.layouts.labelstudio import labelstudio
from segmentation.data.layouts.pairs import pairs
from segmentation.data.layouts.table import csv
from segmentation.data.layouts.voc import voc
from segmentation.data.layouts.yolo import yolo

LAYOUTS: dict[str, Callable[..., FoundFiles]] = {
    "ade20k": ade20k,
    "binary": binary,
    "camvid": folder,  # its classes are in conf/dataset/camvid.yaml
    "cityscapes": cityscapes,
    "class_dict": class_dict,
    "coco": coco,
    "csv": csv,
    "cvat": cvat,
    "folder": folder,
    "labelme": labelme,
    "labelstudio": labelstudio,
    "pairs": pairs,
    "pets": pets,
    "regions": regions,
    "roboflow": roboflow,
    "voc": voc,
    "yolo": yolo,
}
"""A reader's keyword parameters are its own options; one with a positional parameter gets `ClassOptions` there."""
