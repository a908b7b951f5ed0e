"""Layouts of other tools are called by name."""

from pathlib import Path

import pytest

from segmentation.data import create_dataset
from segmentation.data.recognise import recognised
from segmentation.errors import UserError


@pytest.mark.parametrize(
    ("files", "name"),
    [
        (["images/1.jpg", "annotations.json"], "COCO"),
        (["images/1.jpg", "annotations/instances_train.json"], "COCO"),
        (["train/1.jpg", "train/_annotations.coco.json"], "COCO"),
        (["1.BMP", "1.json"], "labelme"),
        (["train/1.jpg", "train/1.json"], "labelme"),
        (["images/1.jpg", "json/1.json"], "labelme"),
        (["images/1.jpg", "annotations.xml"], "CVAT"),
        (["leftImg8bit/train/x/1.png"], "Cityscapes"),
        (["images/1.jpg", "labels/1.txt"], "YOLO"),
        (["images/train/1.jpg", "labels/train/1.txt"], "YOLO"),
        (["JPEGImages/1.jpg"], "dataset=voc"),
        (["image/1.png", "label/1.png"], "dataset=auto"),
        (["train/1.png", "train_labels/1_L.png"], "dataset=auto"),
        (["train/1.png", "trainannot/1.png"], "dataset=auto"),
    ],
)
def test_layouts_are_recognised(files: list[str], name: str, tmp_path: Path) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text('{"version": "5.4", "shapes": []}' if file.endswith("1.json") else "")
    assert name in recognised(tmp_path)
    for dataset in ({"name": "binary"}, {"name": "folder", "names": ["a", "b"]}):
        with pytest.raises(UserError, match=name):
            create_dataset(**dataset, root=str(tmp_path))


def test_others_are_not(tmp_path: Path) -> None:
    (tmp_path / "classes.json").touch()
    assert recognised(tmp_path) == ""
