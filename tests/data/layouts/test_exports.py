"""Exports that tools write in other ways than the usual one, as people have them."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_annotations import COUNT, HEIGHT, WIDTH, coco, cvat, labelme, truth, write, yolo
from made_data import save
from PIL import Image

from segmentation.data import SegmentationDataset, create_dataset, recognised_options
from segmentation.errors import UserError


def recognised(root: Path, name: str, **more: Any) -> SegmentationDataset:
    options, _ = recognised_options({"root": str(root)})
    assert options["name"] == name
    return create_dataset(**options, **more)


def assert_known(dataset: SegmentationDataset, numbers: Any = range(COUNT)) -> None:
    """All masks are the known ones, and the images are those that were made."""
    found = {
        int(sample["name"][-1]): sample for samples in dataset.splits().values() for sample in samples
    }
    assert sorted(found) == list(numbers)
    for number, sample in found.items():
        assert (sample["image"] == 90).all()
        np.testing.assert_array_equal(sample["mask"], truth(number))


def edited(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("inner", ["images", "images/default", "."])
def test_a_folder_of_cvat_for_each_task(inner: str, tmp_path: Path) -> None:
    for task, numbers in (("task_0", range(3)), ("task_1", range(3, COUNT))):
        cvat(tmp_path / task)
        xml = tmp_path / task / "annotations.xml"
        head, *images = xml.read_text().removesuffix("</annotations>").split("<image ")
        xml.write_text("<image ".join([head, *(images[n] for n in numbers)]) + "</annotations>")
        for number in range(COUNT):
            picture = tmp_path / task / f"images/p{number}.png"
            target = tmp_path / task / inner / picture.name
            if number in numbers:
                target.parent.mkdir(exist_ok=True)
                picture.rename(target)
            else:
                picture.unlink()
    dataset = recognised(tmp_path, "cvat")
    assert_known(dataset)
    (tmp_path / "task_1" / inner / "p4.png").unlink()
    with pytest.raises(UserError, match=r"task_1/annotations.xml: 1 of the 3 images"):
        create_dataset(name="cvat", root=str(tmp_path))


def test_json_files_of_other_tools_beside_labelmes(tmp_path: Path) -> None:
    labelme(tmp_path)
    write(tmp_path / "info.json", {"author": "me"})
    write(tmp_path / "list.json", [1])
    dataset = recognised(tmp_path, "labelme")
    assert_known(dataset)
    assert "2 JSON files are not labelme's and are left out (info.json, list.json)." in dataset.notes


@pytest.mark.parametrize("path", ["p0.png", "/home/me/p0.png", "C:\\me\\p0.png", "../../p0.png"])
def test_the_copy_of_a_picture_in_labelmes_file_is_read(path: str, tmp_path: Path) -> None:
    labelme(tmp_path)
    picture = tmp_path / "p0.png"
    edited(
        tmp_path / "p0.json", imagePath=path, imageData=base64.b64encode(picture.read_bytes()).decode()
    )
    picture.unlink()
    assert_known(recognised(tmp_path, "labelme"))
    edited(tmp_path / "p0.json", imageData="QUJD")
    dataset = create_dataset(name="labelme", root=str(tmp_path))
    with pytest.raises(UserError, match=r"p0.json cannot be read"):
        assert_known(dataset)
    edited(tmp_path / "p0.json", imageData=None)
    with pytest.raises(UserError, match=r"p0.json: (there is no picture|the path)"):
        create_dataset(name="labelme", root=str(tmp_path))


@pytest.mark.parametrize("kind", ["rotation", "oriented_rectangle", "quadrilateral"])
def test_four_corners_of_labelme_are_a_polygon(kind: str, tmp_path: Path) -> None:
    labelme(tmp_path)
    content = json.loads((tmp_path / "p0.json").read_text())
    content["shapes"][0]["shape_type"] = kind
    write(tmp_path / "p0.json", content)
    assert_known(recognised(tmp_path, "labelme"))


@pytest.mark.parametrize("folder", ["/home/me/pets/", "C:\\pets\\", "../pets/"])
def test_paths_of_another_machine_and_ids_with_a_point_in_cocos_file(folder: str, tmp_path: Path) -> None:
    coco(tmp_path)
    path = tmp_path / "annotations.json"
    content = json.loads(path.read_text())
    for image in content["images"][1:]:
        image.update(file_name=f"{folder}{image['file_name']}", id=float(image["id"]))
    for annotation in content["annotations"]:
        annotation["category_id"] = float(annotation["category_id"])
    write(path, content)
    assert_known(recognised(tmp_path, "coco"))
    save(tmp_path / "more/p1.png", np.zeros((3, 3), np.uint8))
    with pytest.raises(UserError, match=r"p1.png.*does not stay in the data's folder"):
        create_dataset(name="coco", root=str(tmp_path))
    content["annotations"][0]["category_id"] = 17.5
    write(path, content)
    (tmp_path / "more/p1.png").unlink()
    with pytest.raises(UserError, match=r"annotation 0: 'category_id' is 17.5"):
        create_dataset(name="coco", root=str(tmp_path))


def test_a_box_among_yolos_polygons_is_a_rectangle(tmp_path: Path) -> None:
    yolo(tmp_path)
    path = tmp_path / "labels/train/p1.txt"
    cat, dog = path.read_text().splitlines()
    box = f"0 {11.5 / WIDTH} {9 / HEIGHT} {19 / WIDTH} {12 / HEIGHT}"
    path.write_text(f"{box}\n{dog}\n")
    dataset = recognised(tmp_path, "yolo")
    assert_known(dataset)
    assert f"1 of 12 shapes are boxes ({path}, line 1): drawn as rectangles." in dataset.notes
    for path in tmp_path.glob("labels/*/*.txt"):
        path.write_text(f"{box}\n")
    with pytest.raises(UserError, match=r"p0.txt, line 1: five numbers are a box for detection"):
        create_dataset(name="yolo", root=str(tmp_path))


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_split_of_yolo_with_the_images_of_another(split: str, tmp_path: Path) -> None:
    yolo(tmp_path)
    path = tmp_path / "data.yaml"
    other = {"val": "images/train", "test": "images/val"}[split]
    path.write_text(path.read_text().replace(f"{split}: ../images/{split}", f"{split}: {other}"))
    path.write_text(path.read_text().replace(f"{split}: images/{split}", f"{split}: {other}"))
    dataset = recognised(tmp_path, "yolo")
    assert f"data.yaml gives {split} the images of another split, so it has none of its own." in dataset.notes
    assert not set(dataset.train.names) & set(dataset.val.names)
