"""Exports that tools write in other ways than the usual one, as people have them."""

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_annotations import COUNT, HEIGHT, WIDTH, coco, cvat, labelme, labelstudio, truth, write, yolo
from made_data import VOC_LISTS, image, known, make_trainaug, mask, masks_in, save
from PIL import Image
from scipy.io import savemat

from segmentation.data import SegmentationDataset, create_dataset, recognised_options
from segmentation.data.image_io import open_picture
from segmentation.errors import UserError


def recognised(root: Path, name: str, **more: Any) -> SegmentationDataset:
    options, _ = recognised_options({"root": str(root)})
    assert options["name"] == name
    return create_dataset(**options, **more)


def assert_known(dataset: SegmentationDataset, numbers: Any = range(COUNT)) -> None:
    """All masks are the known ones, and the images are those that were made."""
    found = {int(sample["name"][-1]): sample for samples in dataset.splits().values() for sample in samples}
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
    edited(tmp_path / "p0.json", imagePath=path, imageData=base64.b64encode(picture.read_bytes()).decode())
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
    for each in content["images"][1:]:
        each.update(file_name=f"{folder}{each['file_name']}", id=float(each["id"]))
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
    _, dog = path.read_text().splitlines()
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


def as_arrays(root: Path, pattern: str, dtype: Any) -> None:
    """Masks as arrays of numpy instead of pictures."""
    for path in root.glob(pattern):
        np.save(path.with_suffix(".npy"), np.array(Image.open(path)).astype(dtype))
        path.unlink()


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
@pytest.mark.parametrize(
    ("image", "mask", "name"),
    [
        ("images/{n}.jpg", "masks/{n}.png", "folder"),
        ("{n}.jpg", "{n}_mask.png", "pairs"),
        ("{n}.jpg", "{n}.png", "pairs"),
        ("raw/{n}.jpg", "gt/{n}.png", "pairs"),
    ],
)
def test_masks_are_arrays(image: str, mask: str, name: str, dtype: Any, tmp_path: Path) -> None:
    masks_in(image, mask)(tmp_path)
    as_arrays(tmp_path, mask.format(n="*"), dtype)
    dataset = recognised(tmp_path, name)
    for sample in dataset.train:
        number = round(float(np.median(sample["image"][..., 2])) / 20)
        np.testing.assert_array_equal(sample["mask"], known(number))


def test_an_array_beside_the_picture_of_a_mask_is_left_out(tmp_path: Path) -> None:
    masks_in("raw/{n}.jpg", "gt/{n}.png")(tmp_path)
    np.save(tmp_path / "gt/0.npy", np.zeros((3, 3)))
    recognised(tmp_path, "pairs").train[0]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.full((24, 32), 0.25), "holds 0.25, which is no label: save whole numbers"),
        (np.full((24, 32), np.nan), "holds nan, which is no label"),
        (np.full((24, 32), -7), "holds values -7..-7: save labels of 0..65535"),
        (np.zeros((24, 32, 3)), "has 3 bands: save a mask as"),
        (np.zeros(3), r"has the shape \(3,\)"),
        (np.array([["a"]]), "holds str.* values"),
    ],
)
def test_arrays_that_are_no_mask(values: np.ndarray, words: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(UserError, match=words):
        open_picture(tmp_path / "a.npy")


def test_labels_as_decimal_numbers_and_with_minus_one(tmp_path: Path) -> None:
    save(tmp_path / "a.tif", known(1).astype(np.float32))
    np.testing.assert_array_equal(np.array(open_picture(tmp_path / "a.tif")), known(1))
    np.save(tmp_path / "a.npy", known(1).astype(np.int32)[None] - 1)
    np.testing.assert_array_equal(np.array(open_picture(tmp_path / "a.npy")), known(1) - np.uint8(1))
    np.save(tmp_path / "a.npy", known(1) * 1000.0)
    np.testing.assert_array_equal(np.array(open_picture(tmp_path / "a.npy")), known(1) * np.uint16(1000))
    np.save(tmp_path / "a.npy", known(1) > 0)
    np.testing.assert_array_equal(np.array(open_picture(tmp_path / "a.npy")), known(1) > 0)


@pytest.mark.parametrize("place", ["cls", "benchmark_RELEASE/dataset/cls"])
def test_masks_of_sbd_as_published(place: str, tmp_path: Path) -> None:
    make_trainaug(tmp_path)
    shutil.rmtree(tmp_path / "SegmentationClassAug")
    save(tmp_path / "JPEGImages/d.jpg", image())
    (tmp_path / VOC_LISTS / "trainaug.txt").write_text("a\nd\n")
    (tmp_path / place).mkdir(parents=True)
    for name in "ad":
        struct = {"GTcls": {"Segmentation": mask(0, 3), "CategoriesPresent": [3]}}
        savemat(tmp_path / place / f"{name}.mat", struct, do_compression=True)
    dataset = create_dataset(name="voc", root=str(tmp_path), train_list="trainaug")
    np.testing.assert_array_equal(dataset.train[0]["mask"], mask(0, 15, 255))  # VOC's own
    np.testing.assert_array_equal(dataset.train[1]["mask"], mask(0, 3))
    (tmp_path / place / "d.mat").write_bytes(b"MATLAB 5.0")
    with pytest.raises(UserError, match=r"d.mat cannot be read: it holds no GTcls.Segmentation"):
        dataset.train[1]


def test_further_pictures_of_each_image_are_skipped(tmp_path: Path) -> None:
    masks_in("{split}/{n}.png", "{split}/{n}_mask.png")(tmp_path)
    masks_in("{split}/{n}_edge.png", "{split}/{n}-depth.png")(tmp_path)
    options, said = recognised_options({"root": str(tmp_path)})
    assert options["skip"] == "**/*{-depth,_edge}"
    assert "dataset.skip='**/*{-depth,_edge}'" in said
    sizes = {split: len(names) for split, names in create_dataset(**options).names().items()}
    assert sizes == {"train": 6, "val": 2, "test": 2}
    (tmp_path / "train/0_mask.png").unlink()
    with pytest.raises(UserError, match=r"1 of 10 images .* have no mask \(train/0.png"):
        create_dataset(**options)


@pytest.mark.parametrize(
    "names", [("index_ade20k.pkl",), ("images/training/a/abbey/ADE_train_00000970_seg.png",)]
)
@pytest.mark.parametrize("below", ["", "ADE20K_2021_17_01"])
def test_the_full_release_of_ade20k_is_named(names: tuple[str, ...], below: str, tmp_path: Path) -> None:
    for name in (*names, "images/training/a/abbey/ADE_train_00000970.jpg"):
        save(tmp_path / below / f"{name}.png", image()).rename(tmp_path / below / name)
    for options in ({"name": "auto"}, {"name": "ade20k"}):
        with pytest.raises(UserError, match=r"full release of ADE20K.*download ADEChallengeData2016"):
            create_dataset(root=str(tmp_path), **options)


def test_label_studios_regions_need_its_json(tmp_path: Path) -> None:
    labelstudio(tmp_path / "with")
    for folder in ("with", "alone"):
        save(tmp_path / folder / "task-1-annotation-2-by-3-tag-cat-0.png", mask(0, 255))
    assert_known(recognised(tmp_path / "with", "labelstudio"))
    with pytest.raises(UserError, match=r"a PNG file for each region, .*export the project as JSON too"):
        recognised(tmp_path / "alone", "labelstudio")
