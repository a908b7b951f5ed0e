"""Outlines and regions as annotation tools write them."""

import base64
import io
import json
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_annotations import (
    COUNT,
    HEIGHT,
    MAKERS,
    NAMES,
    WIDTH,
    coco,
    coco_splits,
    cvat,
    cvat_masks,
    labelme,
    labelme_voc,
    labelstudio,
    regions,
    truth,
    yolo,
)
from made_data import save
from PIL import Image

from segmentation.data import create_dataset, recognised_options
from segmentation.data.drawings import OVERLAPS
from segmentation.errors import UserError

Maker = Callable[[Path], dict[str, Any]]
every_maker = pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)


def masks(options: dict[str, Any]) -> dict[int, np.ndarray]:
    """The masks of all samples by the numbers of their pictures."""
    dataset = create_dataset(**options)
    splits = dataset.splits().values()
    return {int(sample["name"][-1]): sample["mask"] for samples in splits for sample in samples}


def edited(path: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps(change(content) or content))


@pytest.mark.parametrize("maker", [*MAKERS, labelme_voc, cvat_masks], ids=lambda maker: maker.__name__)
def test_recognised_and_masks_are_the_known_ones(maker: Maker, tmp_path: Path) -> None:
    options = maker(tmp_path)
    assert recognised_options({"root": str(tmp_path)})[0] == options
    dataset = create_dataset(**options)
    assert list(dataset.classes.names) == NAMES
    found = masks(options)
    assert sorted(found) == list(range(COUNT))
    for number, mask in found.items():
        np.testing.assert_array_equal(mask, truth(number))
    assert (OVERLAPS in dataset.notes) is (options["name"] not in ("cvat", "voc"))


def renamed(made: Maker, *moves: tuple[str, str]) -> Maker:
    """The same with other names of files and folders."""

    def make(root: Path) -> dict[str, Any]:
        options = made(root)
        for old, new in moves:
            for path in sorted(root.glob(old)):
                target = path.parent / new.replace("*", path.stem)
                target.parent.mkdir(exist_ok=True)
                path.rename(target)
        return options

    return make


def with_pictures(made: Maker, ending: str) -> Maker:
    """labelme's files in folders of splits, with pictures of another format, and a file of another program."""

    def make(root: Path) -> dict[str, Any]:
        options = made(root)
        for path in sorted(root.glob("*.png")):
            folder = root / ("val" if path.stem in ("p4", "p5") else "train")
            folder.mkdir(exist_ok=True)
            Image.open(path).save(folder / f"{path.stem}.{ending}", "bmp")
            path.with_suffix(".json").rename(folder / f"{path.stem}.json")
            path.unlink()
        return options

    return make


def with_lists(root: Path) -> dict[str, Any]:
    """YOLO's lists of images, written on another machine."""
    options = yolo(root)
    for split in ("train", "val", "test"):
        names = sorted(path.name for path in (root / "images" / split).iterdir())
        (root / f"{split}.txt").write_text(
            "".join(f"/home/me/pets/images/{split}/{name}\n" for name in names)
        )
    (root / "data.yaml").write_text("train: train.txt\nval: val.txt\ntest: test.txt\nnames: [cat, dog]\n")
    return options


def with_addresses(root: Path) -> dict[str, Any]:
    """Label Studio's tasks with paths from above the root, with pictures of one name, and a + in a name."""
    options = labelstudio(root)
    shutil.copytree(root / "media", root / "other" / "media")
    (root / "media" / "p1.png").rename(root / "media" / "p+1.png")
    paths = [f"media/p{number}.png".replace("p1", "p+1") for number in range(COUNT)]
    edited(
        root / "project.json",
        lambda tasks: [
            {**task, "data": {"image": f"/data/local-files/?d=sets/{root.name}/{path}"}}
            for task, path in zip(tasks, paths, strict=False)
        ],
    )
    return options


VARIANTS: dict[str, Maker] = {
    "result.json": renamed(coco, ("annotations.json", "result.json")),
    "data/ and labels.json": renamed(coco, ("annotations.json", "labels.json"), ("images", "data")),
    "train.json and val.json": renamed(
        coco_splits,
        ("annotations/captions_*.json", "*.txt"),
        ("annotations/instances_*.json", "../*.json"),
        ("*2017.json", "*.json"),
    ),
    "pictures.BMP in splits": with_pictures(labelme, "BMP"),
    "pets-seg.yaml": renamed(yolo, ("data.yaml", "pets-seg.yaml")),
    "lists": with_lists,
    "addresses": with_addresses,
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_other_names_of_files_are_recognised_and_read(variant: str, tmp_path: Path) -> None:
    options = VARIANTS[variant](tmp_path)
    assert recognised_options({"root": str(tmp_path)})[0] == options
    found = masks(options)
    assert sorted(found) == list(range(COUNT))
    assert all(np.array_equal(mask, truth(number)) for number, mask in found.items())


def test_train_and_test_without_val(tmp_path: Path) -> None:
    options = renamed(
        coco_splits, ("val2017", "test2017"), ("annotations/instances_val*.json", "instances_test2017.json")
    )(tmp_path)
    assert {split: len(names) for split, names in create_dataset(**options).names().items()} == {
        "train": 3,
        "val": 1,
        "test": 2,
    }


def test_an_upload_is_no_picture_whose_name_ends_alike(tmp_path: Path) -> None:
    options = labelstudio(tmp_path)
    edited(
        tmp_path / "project.json", lambda tasks: tasks[4]["data"].update(image="/data/upload/1/left-p4.png")
    )
    with pytest.raises(UserError, match=r"task 4: the image '/data/upload/1/left-p4.png' is not in"):
        create_dataset(**options)


@every_maker
def test_names_choose_order_merge_and_ignore(maker: Maker, tmp_path: Path) -> None:
    options = maker(tmp_path)
    dataset = create_dataset(**options, names=["dog"])
    assert dataset.classes.binary
    assert dataset.classes.names == ("background", "dog")
    assert any("left out: cat" in note for note in dataset.notes)
    for number, mask in masks({**options, "names": ["dog"]}).items():
        np.testing.assert_array_equal(mask, truth(number) == 2)
    for number, mask in masks({**options, "merge": {"pet": ["cat", "dog"]}}).items():
        np.testing.assert_array_equal(mask, truth(number) > 0)
    for number, mask in masks({**options, "merge": {"ignore": ["dog"]}}).items():
        np.testing.assert_array_equal(mask, np.array([0, 1, 255])[truth(number)])
    for number, mask in masks({**options, "names": ["dog", "cat"], "unlabelled": "ignore"}).items():
        np.testing.assert_array_equal(mask, np.array([255, 1, 0])[truth(number)])
    for number, mask in masks({**options, "ignore": ["dog"]}).items():
        np.testing.assert_array_equal(mask, np.array([0, 1, 255])[truth(number)])


@every_maker
def test_the_cache_sees_another_meaning_of_the_names(maker: Maker, tmp_path: Path) -> None:
    options = maker(tmp_path)
    prints = [
        create_dataset(**options, **more).train.fingerprint()
        for more in ({}, {}, {"ignore": ["dog"]}, {"unlabelled": "ignore"})
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def test_crowds_are_ignored_and_images_without_annotations_are_background(tmp_path: Path) -> None:
    def change(content: Any) -> None:
        content["annotations"] = content["annotations"][:-2]  # those of the last image
        content["annotations"][1]["iscrowd"] = 1  # the first image's dog

    options = coco(tmp_path)
    edited(tmp_path / "annotations.json", change)
    found = masks(options)
    np.testing.assert_array_equal(found[0], np.array([0, 1, 255])[truth(0)])
    assert not found[COUNT - 1].any()


def test_without_an_order_the_smaller_shape_lies_over_the_larger(tmp_path: Path) -> None:
    options = cvat(tmp_path)
    path = tmp_path / "annotations.xml"
    text = path.read_text()
    path.write_text(text.replace('z_order="1"', 'z_order="0"'))
    np.testing.assert_array_equal(masks(options)[0], truth(0))
    assert OVERLAPS in create_dataset(**options).notes
    path.write_text(text.replace('z_order="1"', 'z_order="-1"'))
    assert set(np.unique(masks(options)[0])) == {0, 1}  # the cat covers the dog


def test_subsets_are_the_split_and_may_be_folders(tmp_path: Path) -> None:
    options = cvat(tmp_path)
    path = tmp_path / "annotations.xml"
    text = path.read_text()
    for number in range(COUNT):
        subset = "Train" if number < 4 else "Validation"
        text = text.replace(f'name="p{number}.png"', f'name="p{number}.png" subset="{subset}"')
        (tmp_path / "images" / subset).mkdir(exist_ok=True)
        (tmp_path / f"images/p{number}.png").rename(tmp_path / "images" / subset / f"p{number}.png")
    path.write_text(text)
    dataset = create_dataset(**options)
    assert list(dataset.train.names) == [f"Train/p{number}" for number in range(4)]
    assert list(dataset.val.names) == ["Validation/p4", "Validation/p5"]
    np.testing.assert_array_equal(dataset.val[1]["mask"], truth(5))


def in_split_folders(root: Path) -> dict[str, Any]:
    """CVAT's names with the folders of a split, which lie in images/."""
    options, path = cvat(root), root / "annotations.xml"
    for number in range(COUNT):
        name = f"{'train' if number < 4 else 'val'}/p{number}.png"
        path.write_text(path.read_text().replace(f'name="p{number}.png"', f'name="{name}"'))
        (root / "images" / name).parent.mkdir(exist_ok=True)
        (root / f"images/p{number}.png").rename(root / "images" / name)
    return options


def labelme_in_split_folders(root: Path) -> dict[str, Any]:
    """labelme's files in folders of a split, which lie in images/."""
    options = with_pictures(labelme, "bmp")(root)
    (root / "images").mkdir()
    for part in ("train", "val"):
        (root / part).rename(root / "images" / part)
    return options


@pytest.mark.parametrize("maker", [in_split_folders, labelme_in_split_folders], ids=["cvat", "labelme"])
def test_folders_anywhere_are_the_split_of_all_images_or_of_none(maker: Maker, tmp_path: Path) -> None:
    options = maker(tmp_path)
    names = create_dataset(**options).names()
    assert (names["train"], names["val"]) == (
        [f"train/p{number}" for number in range(4)],
        ["val/p4", "val/p5"],
    )
    (tmp_path / "images/val").rename(tmp_path / "images/new")
    for path in tmp_path.glob("*.xml"):
        path.write_text(path.read_text().replace("val/", "new/").replace("train/p3", "test/p3"))
    (tmp_path / "images/test").mkdir()
    for path in (tmp_path / "images/train").glob("p3.*"):
        path.rename(tmp_path / "images/test" / path.name)
    with pytest.raises(UserError, match=r"^2 of 6 images in .* are in none of train.* \(new/p4, new/p5\)"):
        create_dataset(**options)


def test_relations_and_points_are_no_shapes(tmp_path: Path) -> None:
    options = labelstudio(tmp_path)
    point = {"x": 9, "y": 9, "width": 0.5, "keypointlabels": ["cat"]}
    others = [
        {"from_id": "a", "to_id": "b", "type": "relation", "direction": "right"},
        {
            "id": "p",
            "type": "keypointlabels",
            "value": point,
            "original_width": WIDTH,
            "original_height": HEIGHT,
        },
    ]
    edited(tmp_path / "project.json", lambda tasks: tasks[0]["annotations"][1]["result"].extend(others))
    assert "Left out because they have no area: 1 points." in create_dataset(**options).notes
    np.testing.assert_array_equal(masks(options)[0], truth(0))


def test_turned_boxes_and_ellipses(tmp_path: Path) -> None:
    options = cvat(tmp_path)
    path = tmp_path / "annotations.xml"
    box = '<box label="cat" xtl="8" ytl="8" xbr="18" ybr="12" rotation="90"/>'
    ellipse = '<ellipse label="dog" cx="24.5" cy="12.5" rx="3.2" ry="6.2" rotation="90"/>'
    image = f'<image id="0" name="p0.png" width="{WIDTH}" height="{HEIGHT}">{box}{ellipse}</image>'
    others = "".join(f'<image id="{n}" name="p{n}.png" width="{WIDTH}" height="{HEIGHT}"/>' for n in (1, 2))
    path.write_text(f"<annotations>{image}{others}</annotations>")
    mask = masks(options)[0]
    y, x = np.indices(mask.shape) + 0.5
    expected = np.zeros_like(mask)
    expected[5:15, 11:15] = 1
    expected[((x - 24.5) / 6.2) ** 2 + ((y - 12.5) / 3.2) ** 2 < 1] = 2
    assert np.count_nonzero(mask != expected) <= 2


def test_an_image_of_another_size_is_refused(tmp_path: Path) -> None:
    options = coco(tmp_path)
    edited(
        tmp_path / "annotations.json", lambda content: content["images"][0].update(width=HEIGHT, height=WIDTH)
    )
    edited(tmp_path / "annotations.json", lambda content: content["annotations"].pop(1) and None)
    with pytest.raises(UserError, match=r"p0.png has 32x24 pixels, but .*annotations.json 24x32.*EXIF"):
        masks(options)


def _at(*keys: Any, value: Any) -> Callable[[Any], None]:
    def change(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


def _replaced(old: str, new: str) -> Callable[[Any], str]:
    return lambda text: text.replace(old, new, 1)


RLE = ("annotations", 1, "segmentation")
REGION = ("annotations", 1, "segmentation", "counts")
DAMAGED = [
    (cvat, "annotations.xml", _replaced("utf-8", "utf-81"), ("annotations.xml", "utf-81", "UTF-8")),
    (coco, "annotations.json", _at("images", 0, "file_name", value="é" * 300), ("ééé", "longer than names")),
    (coco, "annotations.json", _at("images", value=3), ("annotations.json", "'images' is 3", "no list")),
    (coco, "annotations.json", _at("images", 0, value=3), ("3 is no object",)),
    (coco, "annotations.json", _at("images", 0, "file_name", value="/etc/passwd"), ("/etc/passwd", "stay")),
    (coco, "annotations.json", _at("images", 0, "file_name", value="../../x.png"), ("../../x.png", "stay")),
    (
        coco,
        "annotations.json",
        _at("images", 1, "file_name", value="no.png"),
        ("1 of the 6 images", "no.png"),
    ),
    (
        renamed(coco, ("images/p1.png", "img1")),
        "annotations.json",
        _at("images", 1, "file_name", value="img1"),
        ("image img1", "no ending"),
    ),
    (coco, "annotations.json", _at("images", 1, "id", value=10), ("image p1.png", "the id 10")),
    (
        coco,
        "annotations.json",
        _at("images", 1, "width", value=1e9),
        ("image p1.png", "'width' is 1000000000"),
    ),
    (coco, "annotations.json", _at("images", 1, "width", value=-1), ("image p1.png", "-1")),
    (
        coco,
        "annotations.json",
        _at("images", 1, "file_name", value="p0.png"),
        ("two images are called p0",),
    ),
    (coco, "annotations.json", _at("categories", 0, "name", value=None), ("'name' is None", "no text")),
    (coco, "annotations.json", _at("annotations", 2, value=[]), ("annotation 2", "no object")),
    (coco, "annotations.json", _at("annotations", 2, "image_id", value=[1]), ("annotation 2", "'image_id'")),
    (
        coco,
        "annotations.json",
        _at("annotations", 2, "image_id", value=999),
        ("annotation 2", "999, which is not"),
    ),
    (
        coco,
        "annotations.json",
        _at("annotations", 2, "category_id", value=1),
        ("annotation 2", "'category_id' is 1"),
    ),
    (
        coco,
        "annotations.json",
        _at("annotations", 2, "segmentation", value="x"),
        ("annotation 2", "'x'", "no list"),
    ),
    (
        coco,
        "annotations.json",
        _at("annotations", 2, "segmentation", value=[["a"]]),
        ("annotation 2", "no points"),
    ),
    (
        coco,
        "annotations.json",
        _at("annotations", 2, "segmentation", value=[[1, 2, 3]]),
        ("annotation 2", "points"),
    ),
    (
        coco,
        "annotations.json",
        _at("annotations", 2, "segmentation", value=[[1e39] * 6]),
        ("annotation 2", "outside"),
    ),
    (
        coco,
        "annotations.json",
        _at("annotations", 2, "segmentation", value=[[10**400]]),
        ("annotation 2", "no points"),
    ),
    (coco, "annotations.json", _at(*RLE, "size", value=[24]), ("annotation 1", "'size'")),
    (coco, "annotations.json", _at(*RLE, "size", value=[32, 24]), ("annotation 1", "[32, 24]", "[24, 32]")),
    (coco, "annotations.json", _at(*REGION, value=[5]), ("annotation 1", "5 pixels, not of 768")),
    (coco, "annotations.json", _at(*REGION, value=[-5, 773]), ("annotation 1", "768")),
    (coco, "annotations.json", _at(*REGION, value=["x"]), ("annotation 1", "no run lengths")),
    (coco, "annotations.json", _at(*REGION, value="\x00é"), ("annotation 1", "no run-length string")),
    (coco, "annotations.json", _at(*REGION, value="oooooooooo0"), ("annotation 1", "too large")),
    (coco, "annotations.json", lambda content: "[" * 100_000, ("annotations.json", "correct the JSON")),
    (coco, "annotations.json", lambda content: "{", ("annotations.json", "correct the JSON")),
    (labelme, "p1.json", _at("shapes", value=None), ("p1.json", "'shapes' is None")),
    (labelme, "p1.json", _at("shapes", 0, "label", value=7), ("p1.json: shape 0", "'label' is 7", "no text")),
    (
        labelme,
        "p1.json",
        _at("shapes", 1, "points", value=[[1, 2]]),
        ("shape 1", "a rectangle has two points"),
    ),
    (labelme, "p1.json", _at("shapes", 0, "mask", value="?"), ("shape 0", "'mask' is no picture")),
    (labelme, "p1.json", _at("shapes", 0, "mask", value="QUJD"), ("shape 0", "'mask' is no picture")),
    (labelme, "p1.json", _at("shapes", 0, "shape_type", value=["x"]), ("shape 0", "'shape_type'")),
    (labelme, "p1.json", _at("imageHeight", value="high"), ("p1.json", "'imageHeight' is 'high'")),
    (labelstudio, "project.json", lambda content: {"a": 1}, ("project.json", "no list of tasks")),
    (labelstudio, "project.json", _at(0, value={"image": "p0.png", "label": []}), ("task 0", "JSON-MIN")),
    (
        labelstudio,
        "project.json",
        _at(1, "data", "image", value="s3://a/b.png"),
        ("task 1", "s3://a/b.png"),
    ),
    (labelstudio, "project.json", _at(1, "annotations", 1, "result", value=[3]), ("task 1", "3")),
    (
        labelstudio,
        "project.json",
        _at(1, "annotations", 1, "result", 1, "value", "rle", value=[1, 2]),
        ("task 1: result b", "no brush"),
    ),
    (
        labelstudio,
        "project.json",
        lambda content: content[1]["annotations"][1]["result"][1]["value"].update(
            rle=content[1]["annotations"][1]["result"][1]["value"]["rle"][:30]
        ),
        ("task 1: result b", "ends too early"),
    ),
    (
        labelstudio,
        "project.json",
        _at(1, "annotations", 1, "result", 0, "value", "x", value="nan"),
        ("task 1: result a", "'x' is 'nan'"),
    ),
    (
        labelstudio,
        "project.json",
        _at(1, "annotations", 1, "result", 0, "image_rotation", value=90),
        ("task 1: result a", "turned"),
    ),
    (
        cvat,
        "annotations.xml",
        _replaced("</meta>", "</mta>"),
        ("annotations.xml", "line 2", "correct the XML"),
    ),
    (
        cvat,
        "annotations.xml",
        _replaced("<annotations>", '<!DOCTYPE a [<!ENTITY b "c">]><annotations>'),
        ("annotations.xml", "DOCTYPE"),
    ),
    (cvat, "annotations.xml", _replaced("<image ", '<track id="0"/><image '), ("CVAT for video", "export")),
    (cvat, "annotations.xml", _replaced("p0.png", "../../p0.png"), ("../../p0.png", "stay")),
    (cvat, "annotations.xml", _replaced("p1.png", "p7.png"), ("p7.png", "add them")),
    (cvat, "annotations.xml", _replaced('xtl="2"', 'xtl="two"'), ("p0.png, box", "'xtl' is 'two'")),
    (cvat, "annotations.xml", _replaced('xtl="2"', ""), ("p0.png, box", "'xtl' is missing")),
    (cvat, "annotations.xml", _replaced("6.00,8.00;", "6.00;"), ("p0.png, polygon", "no points")),
    (cvat, "annotations.xml", _replaced('rle="0, 45"', 'rle="0, x"'), ("p1.png, mask", "no run lengths")),
    (
        cvat,
        "annotations.xml",
        _replaced('rle="0, 45"', 'rle="0, 4"'),
        ("p1.png, mask", "4 pixels, not of 45"),
    ),
    (cvat, "annotations.xml", _replaced('left="6"', 'left="30"'), ("p1.png, mask", "not in the image")),
    (cvat, "annotations.xml", lambda text: "<html></html>", ("lists no images", "CVAT for images")),
    (yolo, "data.yaml", _replaced("names", "nmes"), ("data.yaml", "'names'")),
    (
        yolo,
        "data.yaml",
        _replaced("images/train", "images/training"),
        ("data.yaml", "'train'", "images/training"),
    ),
    (yolo, "labels/train/p1.txt", _replaced("0 ", "7 "), ("p1.txt, line 1", "'7' is no class", "0..1")),
    (yolo, "labels/train/p1.txt", _replaced("0 ", "x "), ("p1.txt, line 1", "'x' is no class")),
    (yolo, "labels/train/p1.txt", lambda text: "0 5 5 7 7 9 1\n", ("p1.txt, line 1", "fractions")),
    (yolo, "labels/train/p1.txt", lambda text: "0 .1 .1 .2 nan .3 .3\n", ("p1.txt, line 1", "outside")),
]


@pytest.mark.parametrize(("maker", "file", "change", "words"), DAMAGED, ids=range(len(DAMAGED)))
def test_damaged_files_are_named(
    maker: Maker, file: str, change: Callable[[Any], Any], words: tuple[str, ...], tmp_path: Path
) -> None:
    options, path = maker(tmp_path), tmp_path / file
    if path.suffix == ".json":
        content = json.loads(path.read_text())
        changed = change(content)
        path.write_text(changed if isinstance(changed, str) else json.dumps(changed or content))
    else:
        path.write_text(change(path.read_text()))
    with pytest.raises(UserError) as error:
        create_dataset(**options)
    for word in words:
        assert word in str(error.value)


def _png(chunk: bytes) -> bytes:
    """A PNG with an empty chunk of this kind behind its pixels."""
    file = io.BytesIO()
    Image.new("1", (8, 8)).save(file, "png")
    pixels, end = file.getvalue()[:-12], file.getvalue()[-12:]
    return pixels + struct.pack(">I4sI", 0, chunk, zlib.crc32(chunk)) + end


@pytest.mark.parametrize(
    "mask", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", _png(b"gAMA")], ids=["eps", "png"]
)
def test_a_mask_in_labelmes_files_is_read_as_safely_as_pictures(
    mask: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = labelme(tmp_path)
    edited(tmp_path / "p1.json", _at("shapes", 0, "mask", value=base64.b64encode(mask).decode()))
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was run"))
    with pytest.raises(UserError, match=r"p1.json: shape 0: 'mask' is no picture\.$"):
        create_dataset(**options)


ODD = [
    None,
    True,
    -1,
    1e308,
    10**30,
    "",
    "x",
    "../..",
    "é" * 300,
    "\0",
    [],
    [[]],
    {},
    {"a": 1},
    [None],
    [1] * 7,
]


def _places(content: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The keys that lead to each value, of lists the first two."""
    yield place
    keys = (
        content if isinstance(content, dict) else range(len(content[:2])) if isinstance(content, list) else ()
    )
    for key in keys:
        yield from _places(content[key], (*place, key))


@pytest.mark.parametrize(
    ("maker", "file"),
    [(coco, "annotations.json"), (labelme, "p0.json"), (labelme, "p1.json"), (labelstudio, "project.json")],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_an_odd_value_at_any_place_is_read_or_named(maker: Maker, file: str, tmp_path: Path) -> None:
    options, path = maker(tmp_path), tmp_path / file
    text = path.read_text()
    for number, (*keys, last) in enumerate(place for place in _places(json.loads(text)) if place):
        changed = json.loads(text)
        part = changed
        for key in keys:
            part = part[key]
        part[last] = ODD[number % len(ODD)]
        path.write_text(json.dumps(changed))
        with suppress(UserError):
            create_dataset(**options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"names": ["cow"]}, ("names has 'cow'", "cat, dog")),
        ({"names": [["cat"]]}, ("['cat'] is not a class name",)),
        ({"merge": {"pet": ["cow"]}}, ("merge has 'cow'",)),
        ({"merge": {"a": ["cat"], "b": ["cat"]}}, ("'cat' 2 times",)),
        ({"ignore": [7]}, ("ignore has 7",)),
        ({"ignore": [[1, 2]]}, ("ignore has [1, 2]",)),
        ({"labels": {1: "cat"}}, ("dataset.labels", "dataset.names")),
        ({"unlabelled": "void"}, ("dataset.unlabelled=void",)),
        ({"names": ["cat"], "unlabelled": "ignore"}, ("1 classes", "between 2")),
        ({"annotations": "no.json"}, ("no.json", "dataset.annotations")),
    ],
)
def test_wrong_options(options: dict[str, Any], words: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        create_dataset(**coco(tmp_path), **options)
    for word in words:
        assert word in str(error.value)


def test_a_classes_yaml_beside_the_annotations_is_read(tmp_path: Path) -> None:
    options = labelme(tmp_path)
    (tmp_path / "classes.yaml").write_text("names: {dog: [9, 9, 9], cat: [1, 2, 3]}\nunlabelled: ignore\n")
    dataset = create_dataset(**options)
    assert dataset.classes.names == ("dog", "cat")
    assert dataset.classes.palette == ((9, 9, 9), (1, 2, 3))
    with pytest.raises(UserError, match="both describe the classes"):
        create_dataset(**options, names=["dog"])
    (tmp_path / "classes.yaml").write_text("names: {1: dog}")
    with pytest.raises(UserError, match=r"names=\{1: 'dog'\} is for values in mask files"):
        create_dataset(**options)


def test_an_image_without_text_file_is_background(tmp_path: Path) -> None:
    options = yolo(tmp_path)
    (tmp_path / "labels/train/p0.txt").unlink()
    (tmp_path / "labels/train/p1.txt").write_text("")
    found = masks(options)
    assert [found[number].any() for number in range(3)] == [False, False, True]


def test_a_file_for_each_object(tmp_path: Path) -> None:
    options = regions(tmp_path)
    assert recognised_options({"root": str(tmp_path)})[0] == options
    found = masks(options)
    for number in range(COUNT - 1):
        np.testing.assert_array_equal(found[number], truth(number) > 0)
    assert not found[COUNT - 1].any()
    before = create_dataset(**options).train.fingerprint()
    (tmp_path / "id0/masks/cat.png").unlink()
    assert create_dataset(**options, seed=0).train.fingerprint() != before
    save(tmp_path / "id1/masks/cat.png", np.zeros((3, 5), np.uint8))
    with pytest.raises(UserError, match=r"id1/images/p1.png has 32x24 pixels, but .*id1/masks 5x3"):
        masks(options)
    (tmp_path / "id2/masks").rename(tmp_path / "id2/mask")
    with pytest.raises(UserError, match=r"1 of 6 folders .* no masks/ \(id2\)"):
        create_dataset(**options)
    for picture in tmp_path.glob("*/images/*"):
        picture.rename(picture.with_suffix(".ppm"))
    with pytest.raises(UserError, match=r"no images/ in it holds a picture \(bmp "):
        create_dataset(**options)


@pytest.mark.parametrize("maker", [labelme_voc, cvat_masks])
def test_masks_and_images_without_each_other(maker: Maker, tmp_path: Path) -> None:
    options = maker(tmp_path)
    (tmp_path / "SegmentationClass/p0.png").unlink()
    dataset = create_dataset(**options)
    assert "1 of 6 images have no mask and are left out." in dataset.notes
    assert sum(map(len, dataset.splits().values())) == 5
    (tmp_path / "JPEGImages/p1.png").unlink()
    with pytest.raises(UserError, match=r"1 of 5 masks .*p1"):
        create_dataset(**options)
