"""Tables of images and masks, and tables of classes beside masks."""

import shutil
from pathlib import Path
from typing import Any

import made_data
import numpy as np
import pytest
from made_data import known, pictured, put, save

from segmentation.data import create_dataset, recognised_options
from segmentation.errors import UserError


def table(root: Path, *lines: str, name: str = "samples.csv") -> dict[str, Any]:
    """Six samples p/0.jpg with m/0.png, and a table with these lines."""
    for number in range(6):
        put(root, f"p/{number}.jpg", f"m/{number}.png", number)
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text("\n".join(lines))
    return {"name": "csv", "root": str(root), "names": made_data.THINGS}


def rows(*more: str) -> list[str]:
    """A row for each sample, with what is added to it."""
    return [f"p/{number}.jpg,m/{number}.png{more[number] if more else ''}" for number in range(6)]


def test_rows_keep_their_splits_and_masks(tmp_path: Path) -> None:
    splits = (",train", ",train", ",valid", ",test", ",Train", ",validation")
    dataset = create_dataset(**table(tmp_path, "image,mask,split", *rows(*splits)))
    assert dataset.names() == {"train": ["0", "1", "4"], "val": ["2", "5"], "test": ["3"]}
    for samples in dataset.splits().values():
        for index in range(len(samples)):
            assert np.array_equal(samples[index]["mask"], known(int(samples[index]["name"])))


def test_rows_of_a_group_stay_together(tmp_path: Path) -> None:
    groups = (",x", ",y", ",z", ",z", ",y", ",x")
    dataset = create_dataset(
        **table(tmp_path, "image,mask,group", *rows(*groups)), fractions=[0.34, 0.33, 0.33]
    )
    assert sorted(map(list, dataset.names().values())) == [["0", "5"], ["1", "4"], ["2", "3"]]
    dataset = create_dataset(**table(tmp_path, "image,mask,group", *rows(*groups)), folds=3, fold=1)
    assert sorted(map(list, dataset.names().values())) == [["0", "5"], ["1", "4"], ["2", "3"]]


def test_rows_of_a_group_stay_together_where_val_is_taken_from_train(tmp_path: Path) -> None:
    lines = rows(",train,x", ",train,y", ",test,", ",train,y", ",train,x", ",train,x")
    for seed in range(3):
        names = create_dataset(
            **table(tmp_path, "image,mask,split,group", *lines), fractions=[0.4, 0.4, 0.2], seed=seed
        ).names()
        assert sorted(map(list, (names["train"], names["val"]))) == [["0", "4", "5"], ["1", "3"]]


def test_a_row_without_a_group_belongs_to_no_other(tmp_path: Path) -> None:
    options = table(tmp_path, "image,mask,group", *rows(",x", ",x", *[","] * 4))
    names = create_dataset(**options, fractions=[0.34, 0.33, 0.33]).names().values()
    assert any({"0", "1"} <= set(each) for each in names)


@pytest.mark.parametrize("header", ["image,mask", "\ufeffImage,MASK", "mask;image", "image\tmask"])
def test_tables_of_spreadsheets(header: str, tmp_path: Path) -> None:
    lines = rows()
    if ";" in header:
        lines = [";".join(reversed(line.split(","))) for line in lines]
    lines = [line.replace(",", "\t") if "\t" in header else line for line in lines]
    options = table(tmp_path, header, *lines, "")
    assert recognised_options({"root": str(tmp_path)})[0]["name"] == "csv"
    assert sum(map(len, create_dataset(**options).names().values())) == 6


def test_paths_are_as_seen_from_the_table(tmp_path: Path) -> None:
    lines = [f"../{line}".replace(",", ",../") for line in rows()]
    options = table(tmp_path, "image,mask", *lines, name="lists/a.csv")
    assert sum(map(len, create_dataset(**options, file="lists/a.csv").names().values())) == 6
    whole = [",".join(f"{tmp_path}/{path}" for path in line.split(",")) for line in rows()]
    assert sum(map(len, create_dataset(**table(tmp_path, "image,mask", *whole)).names().values())) == 6


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["image,label", "p/0.jpg,m/0.png"], "no column 'mask'"),
        (["image,mask,mask", *rows(*[",m/0.png"] * 6)], "several columns 'mask'"),
        (["image,mask"], "has no rows"),
        ([""], "no column 'image'"),
        (["image,mask", "p/0.jpg,m/9.png"], "line 2: 'm/9.png' is no picture"),
        (["image,mask", "p/0.jpg,../../etc/passwd"], "line 2: '../../etc/passwd' is no picture"),
        (["image,mask", "/etc/passwd,m/0.png"], "line 2: '/etc/passwd' is no picture"),
        (["image,mask", "p/0.jpg"], "line 2: 1 values for 2 columns"),
        (["image,mask,split", *rows(*[",tain"] * 6)], "'tain' is not a split. Did you mean 'train'"),
        (["image,mask,split", *rows(",train", ",val", *[","] * 4)], "4 rows have no split"),
        (["image,mask,split", *rows(*[",train"] * 6)], "has the splits train"),
        (["image,mask", *rows(), "p/0.jpg,m/1.png"], r"lists images twice \(p/0.jpg\)"),
        (
            ["image,mask,split", *rows(*[",train"] * 6), "p/0.jpg,m/1.png,val"],
            r"lists images twice \(p/0.jpg\)",
        ),
        (['image,mask\n"p/0.jpg,m/0.png'], "1 values|no table"),
    ],
)
def test_one_line_for_a_wrong_table(lines: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as caught:
        create_dataset(**table(tmp_path, *lines))
    assert "\n" not in str(caught.value)


def test_an_unrelated_table_is_none(tmp_path: Path) -> None:
    made_data.masks_in("{n}.jpg", "{n}_mask.png")(tmp_path)
    (tmp_path / "notes.csv").write_text(f"name,words\n1,{'x' * 140_000}\n")
    assert recognised_options({"root": str(tmp_path)})[0]["name"] == "pairs"


def test_the_table_must_be_clear(tmp_path: Path) -> None:
    options = table(tmp_path, "image,mask", *rows())
    (tmp_path / "other.csv").write_text("")
    with pytest.raises(UserError, match=r"give dataset.file=NAME.csv"):
        create_dataset(**options)
    with pytest.raises(UserError, match=r"is not in dataset\.root|give dataset\.file"):
        create_dataset(**options, file="../x.csv")


WRONG_CLASSES = [
    ("roboflow", "train/_classes.csv", "a,b\n0,x\n", "the first line must be 'pixel value,class'"),
    ("roboflow", "train/_classes.csv", "Pixel Value, Class\n0, x\n1, y\n2, z", "list different classes"),
    ("roboflow", "train/_classes.csv", "Pixel Value, Class\nx, x\n", "no number"),
    ("class_dict", "class_dict.csv", "name,r,g,b\nsky,1,2\n", "has not 4 values"),
    ("class_dict", "class_dict.csv", "name,r,g,b\nsky,1,2,x\n", "no number"),
    ("class_dict", "class_dict.csv", "name,r,g,b\nsky,1,2,300\nroad,1,2,3", "is not a colour"),
    ("class_dict", "class_dict.csv", "name,r,g,b\nsky,1,2,3\nsky,1,2,4", "twice"),
    ("ade20k", "objectInfo150.txt", "1\twall\n", "names 1 classes, not 150"),
    ("pets", "annotations/test.txt", "dog_1 1\n", "'dog_1' has no image"),
    ("pets", "annotations/test.txt", "", "lists no names"),
]


@pytest.mark.parametrize(("name", "file", "content", "message"), WRONG_CLASSES)
def test_one_line_for_a_wrong_list(name: str, file: str, content: str, message: str, tmp_path: Path) -> None:
    made_data.MAKERS[name](tmp_path)
    (tmp_path / file).write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        create_dataset(name=name, root=str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(made_data.MAKERS))
def test_an_empty_folder_is_no_layout(name: str, tmp_path: Path) -> None:
    options = {"images": "*", "masks": "{stem}"} if name == "pairs" else {}
    for root in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError) as caught:
            create_dataset(name=name, root=str(root), **options)
        assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_cityscapes_train_ids(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for number in range(3):
            name = f"{split}/ulm/{split}_{number}"
            save(tmp_path / f"leftImg8bit/{name}_leftImg8bit.png", pictured(number))
            save(
                tmp_path / f"gtFine/{name}_gtFine_labelTrainIds.png",
                np.array([255, 0, 18], np.uint8)[known(number)],
            )
            save(tmp_path / f"gtFine/{name}_gtFine_color.png", pictured(number))
    dataset = create_dataset(name="cityscapes", root=str(tmp_path))
    assert np.array_equal(dataset.train[1]["mask"], np.array([255, 0, 18], np.uint8)[known(1)])
    assert dataset.classes.names[18] == "bicycle"


def test_vocs_training_with_sbd(tmp_path: Path) -> None:
    made_data.make_trainaug(tmp_path)
    dataset = create_dataset(name="voc", root=str(tmp_path), train_list="trainaug")
    assert np.array_equal(dataset.train[1]["mask"], made_data.mask(0, 2))
    assert np.array_equal(dataset.val[0]["mask"], made_data.mask(0, 15, 255))
    (tmp_path / "SegmentationClassAug" / "b.png").unlink()
    with pytest.raises(UserError, match="line 2: 'b' has no mask in SegmentationClassAug"):
        create_dataset(name="voc", root=str(tmp_path), train_list="trainaug")


def test_a_part_of_ade20k_is_named(tmp_path: Path) -> None:
    made_data.make_ade20k(tmp_path)
    for kind in ("images", "annotations"):
        shutil.rmtree(tmp_path / kind / "training")
    with pytest.raises(UserError, match="needs images for train and val"):
        create_dataset(name="ade20k", root=str(tmp_path))


def test_a_folder_is_no_list_of_classes(tmp_path: Path) -> None:
    made_data.make_roboflow(tmp_path)
    for path in tmp_path.glob("*/_classes.csv"):
        path.unlink()
        path.mkdir()
    with pytest.raises(UserError, match=r"_classes\.csv in train"):
        create_dataset(name="roboflow", root=str(tmp_path))
