"""Every layout of mask files: recognised, read as it lies, and its masks are the known ones."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import made_data
import numpy as np
import pytest
from made_data import known, masks_in, put, save

from segmentation.data import create_dataset, recognised_options
from segmentation.data.checks import check_samples
from segmentation.errors import UserError


def make_with(names: Mapping[str, str]) -> Callable[[Path], None]:
    """A maker of folders of splits, which have other names."""

    def make(root: Path) -> None:
        masks_in("{split}/images/{n}.jpg", "{split}/masks/{n}.png")(root)
        for split, name in names.items():
            (root / split).rename(root / name)

    return make


def make_class_dict_beside(root: Path) -> None:
    """Coloured masks, and pictures of edges, beside the images, and a table of the colours."""
    masks_in("{n}.png", "{n}_mask.png", "colours")(root)
    for path in root.glob("*_mask.png"):
        shutil.copy(path, root / path.name.replace("mask", "edge"))
    rows = [
        f"{name},{r},{g},{b}" for name, (r, g, b) in zip(made_data.THINGS, made_data.COLOURS, strict=True)
    ]
    (root / "class_dict.csv").write_text("\n".join(["name,r,g,b", *rows]))


SIDE_BY_SIDE = "{n}/Imgs/a{n}"
# Name of the layout, how it is made, what the known labels are in it, and the options that recognition adds.
CASES: dict[str, tuple[str, Callable[[Path], None], list[int], dict[str, Any]]] = {
    "binary": ("binary", masks_in("images/{n}.jpg", "masks/{n}.png", "binary"), [0, 1], {}),
    "folder": ("folder", masks_in("{split}/images/{n}.jpg", "{split}/masks/{n}.png"), [0, 1, 2], {}),
    "palette": ("folder", masks_in("images/{n}.jpg", "masks/{n}.png", "palette"), [0, 1, 2], {}),
    "colours": ("folder", masks_in("images/{n}.jpg", "masks/{n}.png", "colours"), [0, 2, 1], {}),
    "image_label": (
        *("pairs", masks_in("image/{n}.png", "label/{n}.png", "binary"), [0, 1]),
        {"images": "image/*", "masks": "label/{stem}.*"},
    ),
    "annot": (
        *("pairs", masks_in("{split}/{n}.png", "{split}annot/{n}.png"), [0, 1, 2]),
        {"images": "*/*", "masks": "{1}annot/{stem}.*"},
    ),
    "img_dir": (
        *("pairs", masks_in("img_dir/{split}/{n}.jpg", "ann_dir/{split}/{n}.png"), [0, 1, 2]),
        {"images": "img_dir/*/*", "masks": "ann_dir/{1}/{stem}.*"},
    ),
    "dirs_in_splits": (
        *("pairs", masks_in("{split}/img_dir/{n}.jpg", "{split}/ann_dir/{n}.png"), [0, 1, 2]),
        {"images": "*/img_dir/*", "masks": "{1}/ann_dir/{stem}.*"},
    ),
    "suffix": (
        *("pairs", masks_in("{n}.jpg", "{n}_mask.png"), [0, 1, 2]),
        {"images": "*", "masks": "{parent}/{stem}_mask.*"},
    ),
    "ome": (
        *("pairs", masks_in("raw/{n}.ome.tif", "gt/{n}_seg.png"), [0, 1, 2]),
        {"images": "raw/*.ome", "masks": "gt/{1}_seg.*"},
    ),
    "ome_of_both": (
        *("pairs", masks_in("{n}.ome.tif", "{n}_mask.ome.tif"), [0, 1, 2]),
        {"images": "*.ome", "masks": "{parent}/{1}_mask.ome.*"},
    ),
    "prefixes_in_one_folder": (
        *("pairs", masks_in("data/image{n}.png", "data/mask{n}.png", "binary"), [0, 1]),
        {"images": "data/image*", "masks": "{parent}/mask{1}.*"},
    ),
    "folders_of_other_words": (
        *("pairs", masks_in("2_Ortho_RGB/{n}_RGB.tif", "5_Labels_all/{n}_label.tif"), [0, 1, 2]),
        {"images": "2_Ortho_RGB/*_RGB", "masks": "5_Labels_all/{1}_label.*"},
    ),
    "prefixes": (
        *("pairs", masks_in("imgs/img_{n}.jpg", "labels/lab_{n}.png"), [0, 1, 2]),
        {"images": "imgs/img_*", "masks": "labels/lab_{1}.*"},
    ),
    "valid": (
        *("pairs", make_with({"val": "valid"}), [0, 1, 2]),
        {"images": "*/images/*", "masks": "{1}/masks/{stem}.*"},
    ),
    "Train": (
        *("pairs", make_with({"train": "Train", "val": "Valid", "test": "Test"}), [0, 1, 2]),
        {"images": "*/images/*", "masks": "{1}/masks/{stem}.*"},
    ),
    "training": (
        *("pairs", make_with({"train": "training", "val": "validation"}), [0, 1, 2]),
        {"images": "*/images/*", "masks": "{1}/masks/{stem}.*"},
    ),
    "both_with_suffixes": (
        *("pairs", masks_in("{split}/{n}_sat.jpg", "{split}/{n}_mask.png"), [0, 1, 2]),
        {"images": "*/*_sat", "masks": "{parent}/{2}_mask.*"},
    ),
    "spaces": (
        *("pairs", masks_in("Original/{n}.tif", "Ground Truth/{n}.tif", "binary"), [0, 1]),
        {"images": "Original/*", "masks": "Ground Truth/{stem}.*"},
    ),
    "two_endings": (
        *("pairs", masks_in(f"{SIDE_BY_SIDE}.jpg", f"{SIDE_BY_SIDE}.png", "binary"), [0, 1]),
        {"images": "*/Imgs/*.jpg", "masks": "{parent}/{stem}.png"},
    ),
    "sites": (
        *("pairs", masks_in("site_{split}/images/{n}.jpg", "site_{split}/masks/{n}.png"), [0, 1, 2]),
        {"images": "*/images/*", "masks": "{1}/masks/{stem}.*"},
    ),
    "one_folder_deeper": (
        *("pairs", masks_in("mine/images/{n}.jpg", "mine/masks/{n}.png"), [0, 1, 2]),
        {"images": "mine/images/*", "masks": "mine/masks/{stem}.*"},
    ),
    "cityscapes": ("cityscapes", made_data.make_cityscapes, [255, 0, 13], {}),
    "ade20k": ("ade20k", made_data.make_ade20k, [255, 0, 1], {}),
    "roboflow": ("roboflow", made_data.make_roboflow, [0, 1, 2], {}),
    "class_dict": ("class_dict", made_data.make_class_dict, [0, 1, 2], {}),
    "class_dict_beside": ("class_dict", make_class_dict_beside, [0, 1, 2], {}),
    "pets": ("pets", made_data.make_pets, [0, 1, 255], {}),
}


def truth_of(image: np.ndarray, labels: list[int]) -> np.ndarray:
    """The known mask of an image, which its blue names."""
    number = round(float(np.median(image[..., 2])) / 20)
    return np.array(labels, np.uint8)[known(number, 2 if len(labels) == 2 else 3)]


@pytest.mark.parametrize("case", CASES)
def test_recognised_and_read(case: str, tmp_path: Path) -> None:
    name, make, labels, expected = CASES[case]
    make(tmp_path)
    options, said = recognised_options({"root": str(tmp_path)})
    assert options["name"] == name
    assert expected.items() <= options.items()
    assert said.startswith(f"{tmp_path} looks like ") and f": dataset={name}" in said and "\n" not in said
    assert all(f"dataset.{key}='{value}'" in said for key, value in expected.items())
    assert recognised_options({"name": "auto", "root": str(tmp_path)})[0] == options
    dataset = create_dataset(**options)
    check_samples(dataset)
    for samples in dataset.splits().values():
        for index in range(len(samples)):
            sample = samples[index]
            assert np.array_equal(sample["mask"], truth_of(sample["image"], labels)), sample["name"]
    assert create_dataset(name="auto", root=str(tmp_path)).names() == dataset.names()


def test_a_known_layout_deeper_in_the_folder_is_named(tmp_path: Path) -> None:
    inner = tmp_path / "archive" / "cityscapes"
    made_data.make_cityscapes(inner)
    for path in (inner / "gtFine").rglob("*.png"):
        path.rename(path.with_suffix(".txt"))  # so that no names of pictures fit each other
    with pytest.raises(UserError, match=f"{inner} looks like Cityscapes: give dataset.root={inner}"):
        recognised_options({"root": str(tmp_path)})


AMBIGUOUS: dict[str, tuple[list[str], str]] = {
    "nothing": (["a.txt"], "no known layout"),
    "two_tools": (
        ["images/0.png", "masks/0.png", "annotations.xml"],
        "dataset=cvat .* dataset=folder or binary",
    ),
    "two_readers": (  # as DRIVE
        [
            f"training/{name.format(n)}.png"
            for n in (21, 22)
            for name in ("images/{}_training", "1st_manual/{}_manual1", "mask/{}_training_mask")
        ],
        "several masks for an image",
    ),
    "two_masks": (["img/0.png", "gt/0.png", "labels/0.png"], "several masks for an image"),
}


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_the_choices_are_listed(case: str, tmp_path: Path) -> None:
    files, message = AMBIGUOUS[case]
    for name in files:
        if name.endswith(".png"):
            save(tmp_path / name, known(0))
        else:
            (tmp_path / name).write_text("")
    with pytest.raises(UserError, match=message):
        recognised_options({"root": str(tmp_path)})


def test_outlines_beside_images_of_the_earth_are_known(tmp_path: Path) -> None:
    (tmp_path / "city.tif").touch()
    (tmp_path / "roofs.gpkg").touch()
    with pytest.raises(
        UserError, match=r"dataset=geotiff .* dataset\.images='\*\.tif' dataset\.labels=roofs\.gpkg\.$"
    ):
        recognised_options({"root": str(tmp_path)})


def test_what_is_known_of_the_classes_is_used(tmp_path: Path) -> None:
    masks_in("img/{n}.jpg", "gt/{n}.png")(tmp_path)
    for options in ({"names": made_data.THINGS}, {"labels": {0: "ground", 1: "roof", 2: "ignore"}}):
        assert create_dataset(name="auto", root=str(tmp_path), **options).classes.names[:2] == (
            "ground",
            "roof",
        )
    (tmp_path / "classes.yaml").write_text("names: [ground, roof, road]")
    assert create_dataset(name="auto", root=str(tmp_path)).classes.names == tuple(made_data.THINGS)


def test_images_without_masks_elsewhere_are_said(tmp_path: Path) -> None:
    masks_in("{split}/img_dir/{n}.jpg", "{split}/ann_dir/{n}.png")(tmp_path)
    save(tmp_path / "later" / "x.png", known(0))
    assert "Pictures without masks are left out: later." in recognised_options({"root": str(tmp_path)})[1]


@pytest.mark.parametrize(
    ("image", "mask", "glob"),
    [
        ("{split}/img/{n}.jpg", "{split}/ann/{n}.png", "{{train,val}}/img/*"),
        ("{split}/{n}_sat.jpg", "{split}/{n}_mask.png", "{{train,val}}/*_sat"),
    ],
)
def test_a_test_folder_without_masks_is_left_out(image: str, mask: str, glob: str, tmp_path: Path) -> None:
    masks_in(image, mask)(tmp_path)
    for path in tmp_path.glob(mask.format(split="test", n="*")):
        path.unlink()
    options, said = recognised_options({"root": str(tmp_path)})
    assert options["images"] == glob.format()
    assert "Pictures without masks are left out: test" in said
    assert create_dataset(**options).names()["test"] == create_dataset(**options).names()["val"]


def test_soft_edges_are_two_classes(tmp_path: Path) -> None:
    for number in range(4):
        put(tmp_path, f"{number}.jpg", f"{number}.png", number)
        soft = np.clip(np.arange(32) * 20 - 150, 0, 255).astype(np.uint8)
        save(tmp_path / f"{number}.png", np.tile(soft, (24, 1)) + np.zeros((24, 1), np.uint8))
    assert create_dataset(name="auto", root=str(tmp_path)).classes.binary


@pytest.mark.parametrize("values", [[1, 2, 40], [0, 1000, 2000]])
def test_indices_that_begin_at_one_and_gaps_are_labels(values: list[int], tmp_path: Path) -> None:
    for number in range(4):
        put(tmp_path, f"img/{number}.jpg", f"gt/{number}.png", number)
        save(tmp_path / f"gt/{number}.png", np.array(values, np.min_scalar_type(values[-1]))[known(number)])
    options, said = recognised_options({"root": str(tmp_path)})
    assert options["labels"] == {value: f"class {value}" for value in values}
    assert f"hold the values {', '.join(map(str, values))}, which are the classes. Name them" in said
    create_dataset(**options).train[0]
