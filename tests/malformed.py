"""What can be wrong with a data set and its options. Each case must end in one short message."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from made_data import VOC_LISTS, devkit, divided, fill, flat, folders, image, mask, save


class Malformed(NamedTuple):
    """`make` builds the data in a folder and gives the options of the data set, its name among them."""

    id: str
    make: Callable[[Path], Mapping[str, Any]]
    words: tuple[str, ...]


def _after(
    build: Callable[[Path], dict[str, Any]], change: Callable[[Path], object], **options: Any
) -> Callable[[Path], Mapping[str, Any]]:
    """A good data set, spoiled by `change` and by `options`."""

    def make(root: Path) -> Mapping[str, Any]:
        built = build(root)
        change(root)
        return {**built, **options}

    return make


def _options(build: Callable[[Path], dict[str, Any]], **options: Any) -> Callable[[Path], Mapping[str, Any]]:
    return _after(build, lambda root: None, **options)


def _deleted(pattern: str) -> Callable[[Path], object]:
    def change(root: Path) -> None:
        for path in list(root.glob(pattern)):
            path.unlink()

    return change


def _resaved(pattern: str, values: Any, ending: str) -> Callable[[Path], object]:
    """The files replaced by files with another ending."""

    def change(root: Path) -> None:
        for path in sorted(root.glob(pattern)):
            path.unlink()
            save(path.with_suffix(ending), values)

    return change


def _array(path: str, values: np.ndarray) -> Callable[[Path], object]:
    """The picture replaced by an array in numpy's own file."""

    def change(root: Path) -> None:
        (root / path).unlink()
        np.save((root / path).with_suffix(".npy"), values)

    return change


def _replaced(path: str, content: str | bytes) -> Callable[[Path], object]:
    data = content.encode() if isinstance(content, str) else content

    def change(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)

    return change


def _with_split(
    content: str, build: Callable[[Path], dict[str, Any]] = flat
) -> Callable[[Path], Mapping[str, Any]]:
    def make(root: Path) -> Mapping[str, Any]:
        built = build(root)
        (root / "split.csv").write_text(content)
        return {**built, "split": str(root / "split.csv")}

    return make


def _with_classes(content: str) -> Callable[[Path], Mapping[str, Any]]:
    def make(root: Path) -> Mapping[str, Any]:
        built = folders(root)
        (root / "classes.yaml").write_text(content)
        return {**built, "names": None}

    return make


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def _truncated(root: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    path = save(root / "images" / "p0.png", noise)
    path.write_bytes(path.read_bytes()[:2000])


def _all_files(pattern: str, values: Any) -> Callable[[Path], object]:
    return lambda root: [save(path, values) for path in sorted(root.glob(pattern))]


_ROWS = "name,split\np0,train\np1,train\np2,train\np3,train\np4,val\np5,test\n"
_ALPHA = np.dstack([mask(255, 255)] * 3 + [mask(0, 255)])
_RED = np.dstack([mask(0, 200), mask(0, 0), mask(0, 0)])

MALFORMED = [
    # folders and partners
    Malformed(
        "root_missing", _options(flat, root="/nowhere/at/all"), ("/nowhere/at/all", "no folder", "Expected")
    ),
    Malformed(
        "root_empty", lambda root: {"name": "binary", "root": str(root)}, ("nothing", "images/", "masks/")
    ),
    Malformed(
        "wrong_layout", _after(flat, lambda root: (root / "images").rename(root / "img")), ("images", "img")
    ),
    Malformed("two_layouts", _after(flat, lambda root: fill(root / "train")), ("several data sets", "train")),
    Malformed(
        "images_in_folders",
        _after(
            flat,
            lambda root: [
                path.rename(_made(root / "images/city") / path.name) for path in root.glob("images/*.png")
            ],
        ),
        ("images holds no images", "folders in it are not searched"),
    ),
    Malformed("masks_empty", _after(flat, _deleted("masks/*")), ("masks", "png")),
    Malformed("mask_missing", _after(flat, _deleted("masks/p3.png")), ("1 of 6 images", "p3")),
    Malformed("image_missing", _after(flat, _deleted("images/p3.png")), ("1 of 6 masks", "p3")),
    Malformed(
        "image_twice",
        _after(flat, lambda root: save(root / "images/p1.jpg", image())),
        ("p1.jpg and p1.png", "keep one"),
    ),
    Malformed(
        "mask_twice",
        _after(flat, lambda root: save(root / "masks/p1.tif", mask(0, 1))),
        ("p1.png and p1.tif", "keep one"),
    ),
    Malformed(
        "val_missing",
        _after(folders, lambda root: (root / "val").rename(root / "valid")),
        ("val/images", "valid"),
    ),
    Malformed(
        "test_without_masks",
        _after(folders, lambda root: (root / "test/masks").rename(root / "masks")),
        ("test/masks", "test may be left out"),
    ),
    Malformed(
        "masks_with_another_ending",
        _after(
            flat,
            lambda root: [path.rename(path.with_stem(f"{path.stem}_L")) for path in root.glob("masks/*")],
        ),
        ("6 of 6 images", "'_L'", "rename"),
    ),
    # pictures
    Malformed("image_empty", _after(flat, _replaced("images/p0.png", b"")), ("images/p0.png", "empty")),
    Malformed(
        "image_text", _after(flat, _replaced("images/p0.png", "hello")), ("images/p0.png", "not an image")
    ),
    Malformed("image_truncated", _after(flat, _truncated), ("images/p0.png", "truncated", "Repair")),
    Malformed(
        "mask_unreadable", _after(flat, _replaced("masks/p5.png", "x")), ("masks/p5.png", "not an image")
    ),
    Malformed(
        "image_float",
        _after(flat, _resaved("images/p0.png", np.zeros((8, 12), np.float32), ".tif")),
        ("p0.tif", "8 or 16 bits"),
    ),
    Malformed(
        "image_complex_array",
        _after(flat, _array("images/p0.png", np.zeros((8, 12, 3), np.complex64))),
        ("p0.npy", "complex64"),
    ),
    Malformed(
        "image_with_other_bands",
        _after(flat, _array("images/p0.png", np.zeros((8, 12, 5), np.uint8))),
        ("p0.npy holds 5 bands", "takes 3", "data.channels=5"),
    ),
    Malformed(
        "sizes_differ",
        _after(flat, lambda root: save(root / "masks/p0.png", mask(0, 255, width=10))),
        ("images/p0.png has 12x8", "masks/p0.png 10x8"),
    ),
    Malformed(
        "sizes_swapped",
        _after(flat, lambda root: save(root / "masks/p0.png", mask(0, 255, height=12, width=8))),
        ("12x8", "8x12", "EXIF"),
    ),
    # values of binary masks
    Malformed(
        "binary_coloured",
        _after(flat, lambda root: save(root / "masks/p0.png", _RED)),
        ("p0.png", "coloured"),
    ),
    Malformed(
        "binary_blank", _options(lambda root: flat(root, values=(0,))), ("No foreground", "dataset.threshold")
    ),
    Malformed(
        "binary_several",
        _options(lambda root: flat(root, values=(0, 1, 2))),
        ("0 (33.3%), 1 (33.3%), 2 (33.3%)", "dataset=folder"),
    ),
    Malformed(
        "binary_1_and_255", _options(lambda root: flat(root, values=(0, 1, 255))), ("dataset.ignore=255",)
    ),
    Malformed(
        "binary_three_levels",
        _options(lambda root: flat(root, values=(0, 128, 255))),
        ("0 (33.3%), 128 (33.3%), 255 (33.3%)", "dataset.ignore=128", "dataset.threshold"),
    ),
    Malformed(
        "binary_numbered_objects",
        _options(lambda root: flat(root, values=(0, *range(1, 250, 5)))),
        ("values of grey", "dataset.threshold", "dataset=folder"),
    ),
    Malformed(
        "binary_shape_in_alpha", _after(flat, _all_files("masks/*", _ALPHA)), ("p0.png", "alpha channel")
    ),
    Malformed(
        "shape_in_alpha", _after(folders, _all_files("*/masks/*", _ALPHA)), ("p0.png", "alpha channel")
    ),
    Malformed(
        "one_bit_and_an_ignored_value",
        _after(flat, lambda root: save(root / "masks/p0.png", mask(0, 255), "1"), ignore=255, threshold=0),
        ("p0.png", "1 bit", "dataset.ignore=255", "8 bits"),
    ),
    Malformed(
        "one_bit_among_others",
        _after(folders, lambda root: save(root / "val/masks/p11.png", mask(0, 255), "1")),
        ("val/masks/p11.png", "1 bit", "8 bits"),
    ),
    Malformed(
        "binary_255_among_1",
        _after(divided, lambda root: save(root / "val/masks/p10.png", mask(0, 255))),
        ("val/masks/p10.png", "255", "dataset.threshold"),
    ),
    Malformed(
        "binary_1_among_255",
        _after(flat, lambda root: save(root / "masks/p0.png", mask(0, 1))),
        ("1 (8.3%)", "p0.png holds 1", "dataset.threshold"),
    ),
    Malformed(
        "binary_jpeg_ignore",
        _after(flat, _resaved("masks/*", mask(0, 128, 255), ".jpg"), ignore=128),
        ("JPEG", "dataset.ignore=128", "PNG"),
    ),
    Malformed(
        "binary_all_ignored",
        _options(lambda root: flat(root, values=(255,)), ignore=255, threshold=0),
        ("ignored", "train"),
    ),
    # options of binary data
    Malformed("threshold_word", _options(flat, threshold="high"), ("dataset.threshold=high",)),
    Malformed("threshold_range", _options(flat, threshold=255), ("dataset.threshold=255", "0..254")),
    Malformed("ignore_range", _options(flat, ignore=256), ("dataset.ignore=256", "0..255")),
    Malformed("fractions_sum", _options(flat, fractions=[0.5, 0.2, 0.2]), ("0.5, 0.2, 0.2", "sum to 1")),
    Malformed("fractions_negative", _options(flat, fractions=[1.2, -0.1, -0.1]), ("-0.1", "above 0")),
    Malformed("fractions_two", _options(flat, fractions=[0.7, 0.3]), ("0.7, 0.3", "three")),
    Malformed("too_few_images", _options(lambda root: flat(root, count=2)), ("2 images", "at least 3")),
    # split.csv
    Malformed("split_missing", _options(flat, split="nowhere.csv"), ("nowhere.csv", "dataset.split=PATH")),
    Malformed(
        "split_columns",
        _with_split(_ROWS.replace("name,", "file,")),
        ("split.csv", "file,split", "name,split"),
    ),
    Malformed("split_empty_file", _with_split(""), ("split.csv", "name,split")),
    Malformed(
        "split_word",
        _with_split(_ROWS.replace("p4,val", "p4,vall")),
        ("line 6", "vall", "Did you mean 'val'"),
    ),
    Malformed("split_unknown", _with_split(_ROWS + "p9,train\n"), ("split.csv", "p9", "remove them")),
    Malformed(
        "split_with_endings",
        _with_split(_ROWS.replace(",t", ".png,t").replace(",v", ".png,v").replace("name.png", "name")),
        ("6 names", "p0.png", "without endings"),
    ),
    Malformed("split_twice", _with_split(_ROWS + "p5,train\n"), ("split.csv", "p5", "twice")),
    Malformed(
        "split_incomplete", _with_split(_ROWS.replace("p1,train\n", "")), ("split.csv", "p1", "missing")
    ),
    Malformed(
        "split_no_test", _with_split(_ROWS.replace("test", "val")), ("split.csv", "test", "at least one")
    ),
    Malformed(
        "split_of_divided",
        _options(divided, split="s.csv"),
        ("dataset.split=s.csv", "already has split folders", "Leave it out"),
    ),
    # several classes in folders
    Malformed(
        "label_outside",
        _options(lambda root: folders(root, (0, 1, 7))),
        ("p0.png", "label 7", "0..1", "ignore"),
    ),
    Malformed(
        "label_outside_one",
        _after(folders, lambda root: save(root / "val/masks/p11.png", mask(0, 9))),
        ("val/masks/p11.png", "label 9"),
    ),
    Malformed(
        "only_0_and_255", _options(lambda root: folders(root, (0, 255))), ("0 and 255", "dataset=binary")
    ),
    Malformed(
        "colours_unknown",
        _after(folders, _all_files("*/masks/*", _RED)),
        ("p0.png", "no colours", "classes.yaml"),
    ),
    Malformed(
        "colour_of_no_class",
        _after(
            lambda root: folders(root, names={"sky": [0, 0, 0], "road": [200, 10, 0]}),
            _all_files("*/masks/*", _RED),
        ),
        ("p0.png", "(200, 0, 0)", "(200, 10, 0), 'road'"),
    ),
    Malformed(
        "mask_jpeg", _after(folders, _resaved("train/masks/p0.png", mask(0, 1), ".jpg")), ("p0.jpg", "PNG")
    ),
    Malformed(
        "labels_from_1",
        _options(lambda root: folders(root, (1, 2, 3), names=["pet", "ground", "outline"])),
        ("label 3", "labels: {1: pet, 2: ground, ...}"),
    ),
    Malformed(
        "ignore_of_a_class", _options(folders, ignore=[0]), ("ignore has 0", "'sky'", "labels: {1: NAME")
    ),
    Malformed(
        "ignore_of_a_label",
        _with_classes("labels: {1: sky, 2: road}\nignore: [2]\n"),
        ("classes.yaml", "ignore has 2", "'road'"),
    ),
    Malformed(
        "labels_of_no_class",
        _with_classes("names: [sky, road]\nlabels: {0: sky, 1: raod}\n"),
        ("'raod'", "Did you mean 'road'"),
    ),
    Malformed(
        "class_without_label",
        _with_classes("names: [sky, road]\nlabels: {0: sky}\n"),
        ("'road' has no label",),
    ),
    Malformed(
        "labels_word", _options(folders, names=None, labels={"sky": 1}), ("labels=", "{1: sky, 2: road}")
    ),
    Malformed(
        "labels_twice",
        _with_classes("names: {0: sky, 1: road}\nlabels: {0: sky, 1: road}\n"),
        ("names already holds the labels",),
    ),
    Malformed(
        "label_of_no_class",
        _after(lambda root: folders(root, (1, 9)), lambda root: None, names=None, labels={1: "a", 2: "b"}),
        ("label 9", "1, 2", "labels or to ignore"),
    ),
    Malformed("names_repeat", _options(folders, names=["sky", "sky"]), ("sky", "repeat")),
    Malformed("names_half_letter", _options(folders, names=["sky", "\ud800"]), ("halves of letters",)),
    Malformed("names_one", _options(folders, names=["sky"]), ("1 classes", "between 2 and 255")),
    Malformed("ignore_true", _options(folders, ignore=[True]), ("True", "0..65535")),
    Malformed("ignore_word", _options(folders, ignore=["void"]), ("'void'", "0..65535")),
    Malformed(
        "ignore_colour_without_colours", _options(folders, ignore=[[1, 2, 3]]), ("(1, 2, 3)", "add colours")
    ),
    Malformed("classes_missing", _options(folders, names=None), ("classes.yaml", "names: [sky, road, ...]")),
    Malformed("classes_twice", _options(folders, classes="c.yaml"), ("dataset.names", "c.yaml", "give one")),
    Malformed(
        "classes_syntax", _with_classes("names: [sky, road\nignore: 1"), ("classes.yaml, line 2", "YAML")
    ),
    Malformed("classes_list", _with_classes("- sky\n- road\n"), ("classes.yaml", "no 'names'")),
    Malformed(
        "classes_key", _with_classes("names: [sky, road]\ncolour: []\n"), ("colour", "Did you mean 'colours'")
    ),
    Malformed("classes_word", _with_classes("names: sky\n"), ("classes.yaml", "names=sky")),
    Malformed("classes_yes", _with_classes("names: [yes, no]\n"), ("classes.yaml", "True", "quote")),
    Malformed(
        "classes_colour", _with_classes("names: {sky: [0, 0, 0], road: [0, 0, 256]}\n"), ("256", "[R, G, B]")
    ),
    Malformed(
        "classes_colour_twice",
        _with_classes("names: {a: [0, 0, 0], b: [0, 0, 0]}\n"),
        ("'a'", "'b'", "(0, 0, 0)"),
    ),
    Malformed(
        "classes_key_twice",
        _with_classes("names: {a: [0, 0, 0], a: [0, 0, 1]}\n"),
        ("line 1", "'a'", "twice"),
    ),
    Malformed(
        "classes_colours_short",
        _with_classes("names: [a, b]\ncolours: [[0, 0, 0]]\n"),
        ("2 classes", "1 colours"),
    ),
    # VOC
    Malformed(
        "voc_elsewhere",
        lambda root: {"name": "voc", "root": str(flat(root)["root"])},
        ("images", "JPEGImages"),
    ),
    Malformed("voc_list_missing", _after(devkit, _deleted(f"{VOC_LISTS}/val.txt")), ("val.txt",)),
    Malformed(
        "voc_list_empty", _after(devkit, _replaced(f"{VOC_LISTS}/val.txt", "\n")), ("val.txt", "no names")
    ),
    Malformed(
        "voc_name_without_image",
        _after(devkit, _replaced(f"{VOC_LISTS}/train.txt", "a\nzz\n")),
        ("train.txt, line 2", "zz", "JPEGImages"),
    ),
    Malformed(
        "voc_name_with_ending",
        _after(devkit, _replaced(f"{VOC_LISTS}/train.txt", "a.jpg\n")),
        ("train.txt, line 1", "a.jpg", "without endings"),
    ),
    Malformed(
        "voc_name_without_mask",
        _after(devkit, _deleted("SegmentationClass/b.png")),
        ("train.txt, line 2", "'b'", "SegmentationClass"),
    ),
    Malformed(
        "voc_name_twice",
        _after(devkit, _replaced(f"{VOC_LISTS}/train.txt", "a\nb\na\n")),
        ("line 3", "twice"),
    ),
    Malformed(
        "voc_class_lists_differ",
        _after(
            devkit,
            lambda root: [
                _replaced(f"{name}.txt", f"background\n{name}\n")(root) for name in ("class_names", "classes")
            ],
        ),
        ("class_names.txt", "classes.txt", "different classes"),
    ),
    Malformed(
        "voc_no_background", _after(devkit, _replaced("obj.names", "cat\ndog\n")), ("obj.names", "background")
    ),
    Malformed(
        "voc_labelmap",
        _after(devkit, _replaced("labelmap.txt", "background:0,0\n")),
        ("labelmap.txt", "NAME:R,G,B"),
    ),
    Malformed("voc_label", _options(lambda root: devkit(root, (0, 21))), ("label 21", "0..20")),
    Malformed("voc_train_list", _options(devkit, train_list="test"), ("dataset.train_list=test",)),
]
