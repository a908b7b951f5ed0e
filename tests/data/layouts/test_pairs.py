"""Globs and templates: which file is the mask of which image, and what is not."""

from pathlib import Path
from typing import Any

import pytest
from made_data import known, pictured, save

from segmentation.data import create_dataset
from segmentation.errors import UserError


def put(root: Path, *names: str) -> None:
    """Pictures; those with mask, gt or lab in their path are masks."""
    for number, name in enumerate(names):
        mask = any(word in name for word in ("mask", "gt", "lab"))
        save(root / name, known(number % 5, 2) * 255 if mask else pictured(number % 5))


def of(root: Path, images: str, masks: str, **more: Any) -> dict[str, Any]:
    return {"name": "pairs", "root": str(root), "images": images, "masks": masks, "threshold": 127, **more}


def each(pattern: str, *values: str) -> list[str]:
    return [pattern.replace("#", value) for value in values]


@pytest.mark.parametrize(
    ("files", "images", "masks", "names"),
    [
        (each("i#.jpg", *"012") + each("i#_mask.png", *"012"), "*", "{stem}_mask.*", ["i0", "i1", "i2"]),
        (each("i#.JPG", *"012") + each("lab/i#.PNG", *"012"), "*.jpg", "lab/{stem}.png", ["i0", "i1", "i2"]),
        (
            *(each("#/x.jpg", *"abc") + each("#/gt/x.png", *"abc"), "*/*", "{parent}/gt/{stem}"),
            ["a/x", "b/x", "c/x"],
        ),
        (
            each("in/#/d/x.jpg", *"abc") + each("lab/#/d/x.png", *"abc"),
            *("in/**/*.jpg", "{parent}/../../../lab/{1}/{stem}.png", ["a/d/x", "b/d/x", "c/d/x"]),
        ),
        (
            each("{}/i_#.jpg".format("a"), *"012") + each("a/lab_#.png", *"012"),
            *("a/i_*", "a/lab_{1}", ["i_0", "i_1", "i_2"]),
        ),
        (
            each("#/i.jpg", "x", "y", "z", "w") + each("#/i_gt.png", "x", "y", "z"),
            *("{x,y,z}/*.jpg", "{1}/{2}_gt.png", ["x/i", "y/i", "z/i"]),
        ),
    ],
)
def test_masks_are_found(files: list[str], images: str, masks: str, names: list[str], tmp_path: Path) -> None:
    put(tmp_path, *files)
    dataset = create_dataset(**of(tmp_path, images, masks))
    assert sorted(name for part in dataset.names().values() for name in part) == names
    assert len(dataset.train[0]["mask"]) == 24


@pytest.mark.parametrize(
    ("folders", "sizes"),
    [
        (("train", "val", "test"), (2, 2, 2)),
        (("train_images", "valid_images"), (2, 2, 2)),
        (("train2017", "val2017"), (2, 2, 2)),
        (("Training", "Testing"), (1, 1, 2)),
        (("a", "b", "c"), (4, 1, 1)),
    ],
)
def test_folders_of_splits(folders: tuple[str, ...], sizes: tuple[int, ...], tmp_path: Path) -> None:
    for folder in folders:
        put(tmp_path, *each(f"{folder}/#.jpg", *"01"), *each(f"{folder}/#_mask.png", *"01"))
    options = of(tmp_path, "*/*.jpg", "{parent}/{stem}_mask.png")
    assert tuple(len(part) for part in create_dataset(**options).splits().values()) == sizes
    random = create_dataset(**options, split_folders=False)
    assert sum(map(len, random.names().values())) == 2 * len(folders)


WRONG: list[tuple[str, list[str], str, str, str]] = [
    (
        "no_mask",
        ["a.jpg", "b.jpg", "a_mask.png"],
        "*.jpg",
        "{stem}_mask.png",
        "1 of 2 images .* have no mask .b.jpg",
    ),
    (
        "no_image",
        ["a.jpg", "a_mask.png", "b_mask.png"],
        "*.jpg",
        "{stem}_mask.png",
        "1 masks .* have no image .b_mask",
    ),
    ("nothing", ["a.jpg"], "x/*", "{stem}_mask", "matches none of the 1 pictures"),
    ("each_other", ["a.jpg", "a.png"], "*", "{stem}", "match each other's files"),
    ("several", ["a.jpg", "lab/a.png", "lab/a.tif"], "*", "lab/{stem}", "has several masks"),
    ("same_name", ["a.jpg", "a.bmp", "lab/a.png"], "*", "lab/{stem}", "which have the same name"),
    ("no_template", ["a.jpg"], "*", "mask.png", "is no template"),
    ("attribute", ["a.jpg"], "*", "{stem.__class__}", "is no template"),
    ("too_many", ["a.jpg"], "*", "{2}", "has 1 wildcards"),
    ("absolute", ["a.jpg"], "/etc/*", "{stem}", "is no path of files below"),
    (
        "mixed",
        ["train/a.jpg", "val/a.jpg", "x/a.jpg"],
        "*/*.jpg",
        "{parent}/{stem}_mask.png",
        "1 of 3 images .* no folder",
    ),
]


@pytest.mark.parametrize(
    ("files", "images", "masks", "message"), [case[1:] for case in WRONG], ids=[c[0] for c in WRONG]
)
def test_one_line_for_what_is_wrong(
    files: list[str], images: str, masks: str, message: str, tmp_path: Path
) -> None:
    put(tmp_path, *files)
    if "no folder" in message:
        put(tmp_path, "train/a_mask.png", "val/a_mask.png", "x/a_mask.png")
    with pytest.raises(UserError, match=message) as caught:
        create_dataset(**of(tmp_path, images, masks))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("threshold", "names", "message"),
    [
        (300, None, "is not within 0..254"),
        (-1, None, "is not within 0..254"),
        (100, ["a", "b"], "is for masks of two values, and names"),
    ],
)
def test_a_threshold_is_of_two_values(
    threshold: int, names: list[str] | None, message: str, tmp_path: Path
) -> None:
    put(tmp_path, *each("i#.jpg", *"012"), *each("i#_mask.png", *"012"))
    with pytest.raises(UserError, match=f"^dataset.threshold={threshold} {message}"):
        create_dataset(**of(tmp_path, "*.jpg", "{stem}_mask.png") | {"names": names, "threshold": threshold})


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    put(tmp_path, *each("i#.jpg", *"012"), *each("i#_mask.png", *"012"))
    (tmp_path / "again").symlink_to(tmp_path)
    assert len(create_dataset(**of(tmp_path, "**/*.jpg", "{parent}/{stem}_mask.png")).train) == 1


@pytest.mark.parametrize("images", ["a*" * 12 + "!", "{a,aa}" * 20 + "!", "**/" * 8 + "!", "**/**/a*a*a*b"])
def test_a_glob_that_would_take_for_ever_is_refused(images: str, tmp_path: Path) -> None:
    put(tmp_path, f"{'a' * 60}.png")
    with pytest.raises(UserError, match=r"dataset.images=.* would take for ever"):
        create_dataset(**of(tmp_path, images, "{stem}_mask"))


def test_a_template_of_many_parts_takes_no_time(tmp_path: Path) -> None:
    put(tmp_path, "x/b.png", f"m/{'b' * 20}c.png", f"m/{'b' * 90}.png")
    with pytest.raises(UserError, match=r"1 images are too few"):
        create_dataset(**of(tmp_path, "x/?", "m/" + "{stem}" * 20 + "c"))
