"""PASCAL VOC in both of its editions, and its download."""

import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
from made_data import VOC_LISTS, devkit, image, mask, save

from segmentation.data import create_dataset
from segmentation.data.checks import check_samples
from segmentation.data.layouts.voc import NAMES
from segmentation.errors import UserError

LABELS = (0, 15, 255)


def four_folders(root: Path) -> dict[str, Any]:
    for split, name in (("train", "a"), ("train", "b"), ("valid", "c")):
        save(root / f"{split}_images" / f"{name}.jpg", image())
        save(root / f"{split}_labels" / f"{name}.png", mask(*LABELS))
    return {"name": "voc", "root": str(root)}


@pytest.mark.parametrize("build", [devkit, four_folders])
@pytest.mark.parametrize("coloured", [False, True])
def test_editions_and_encodings(build: Any, coloured: bool, tmp_path: Path) -> None:
    options = build(tmp_path)
    if coloured:
        colours = np.zeros((256, 3), np.uint8)
        colours[15], colours[255] = (192, 128, 128), (224, 224, 192)
        for path in [*tmp_path.glob("*_labels/*"), *tmp_path.glob("SegmentationClass/*")]:
            save(path, colours[mask(*LABELS)])
    dataset = create_dataset(**options)
    check_samples(dataset)
    assert dataset.names() == {"train": ["a", "b"], "val": ["c"], "test": ["c"]}
    assert np.array_equal(dataset.val[0]["mask"], mask(*LABELS))
    assert dataset.notes == ("VOC publishes no test masks: val is used as test.",)
    assert len(dataset.classes) == 21
    assert (NAMES[15], dataset.classes.palette[15]) == ("person", (192, 128, 128))


@pytest.mark.parametrize("above", ["", "VOC2012", "VOCdevkit/VOC2012"])
def test_places_of_the_tree(above: str, tmp_path: Path) -> None:
    devkit(tmp_path / above)
    assert len(create_dataset(name="voc", root=tmp_path).train) == 2


def test_images_without_mask_that_no_list_names(tmp_path: Path) -> None:
    options = devkit(tmp_path)
    save(tmp_path / "JPEGImages" / "detection_only.jpg", image())
    assert len(create_dataset(**options).train) == 2


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("class_names.txt", "__ignore__\n_background_\ncat\ndog\n"),
        (
            "labelmap.txt",
            "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:128,0,0::\ndog:0,128,0::\n",
        ),
        ("classes.txt", "\ufeffbackground\r\ncat\r\ndog\r\n"),
    ],
)
def test_classes_of_a_labelling_tool(name: str, content: str, tmp_path: Path) -> None:
    options = devkit(tmp_path, (0, 1, 2, 255))
    (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    dataset = create_dataset(**options)
    assert check_samples(dataset) == ()
    assert dataset.classes.names == ("background", "cat", "dog")
    assert dataset.classes.palette[1:] == ((128, 0, 0), (0, 128, 0))
    assert dataset.notes[-1] == f"The classes are the 3 of {name}, not PASCAL VOC's 21."


def test_of_two_lists_the_one_beside_the_images_gives_the_colours(tmp_path: Path) -> None:
    options = devkit(tmp_path / "VOC2012", (0, 1, 2, 255)) | {"root": str(tmp_path)}
    (tmp_path / "VOC2012" / "classes.txt").write_text("background\ncat\ndog\n")
    (tmp_path / "labelmap.txt").write_text("background:0,0,0::\ncat:1,2,3::\ndog:4,5,6::\n")
    assert create_dataset(**options).classes.palette[1] == (128, 0, 0)


@pytest.mark.parametrize("names", [NAMES, NAMES[1:], ("_background_", *NAMES[1:])])
def test_a_list_of_vocs_own_classes(names: tuple[str, ...], tmp_path: Path) -> None:
    options = devkit(tmp_path)
    (tmp_path / "classes.txt").write_text("\n".join(names))
    dataset = create_dataset(**options)
    assert (dataset.classes.names, len(dataset.notes)) == (NAMES, 1)


def test_lists_of_other_editors(tmp_path: Path) -> None:
    options = devkit(tmp_path)
    save(tmp_path / "JPEGImages" / "e\u0301.jpg", image())
    save(tmp_path / "SegmentationClass" / "\u00e9.png", mask(*LABELS))
    (tmp_path / VOC_LISTS / "train.txt").write_text(
        "\ufeffa\r\nc\r\ne\u0301\r\n\r\n", encoding="utf-8", newline=""
    )
    dataset = create_dataset(**options)
    assert dataset.names()["train"] == ["a", "c", "\u00e9"]
    assert len(dataset.train[2]["mask"])
    assert dataset.notes[1] == (
        "1 file name occurs in both train and val (c): make sure that the images differ."
    )


def test_trainval(tmp_path: Path) -> None:
    dataset = create_dataset(**devkit(tmp_path), train_list="trainval")
    assert dataset.names()["train"] == ["a", "b", "c"]
    assert any("also used for training" in note for note in dataset.notes)


def test_trainval_needs_lists(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="train_list=trainval needs the devkit's lists"):
        create_dataset(**four_folders(tmp_path), train_list="trainval")


class Server:
    """torchvision's data set, without the network."""

    def __init__(self, result: Any) -> None:
        self.result = result
        self.calls = 0

    def __call__(self, root: Path, year: str, download: bool) -> None:
        self.calls += 1
        assert (year, download) == ("2012", True)
        if isinstance(self.result, Exception):
            raise self.result
        self.result(root / "VOCdevkit" / "VOC2012")


def download(result: Any, root: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Server, Any]:
    import torchvision.datasets

    server = Server(result)
    monkeypatch.setattr(torchvision.datasets, "VOCSegmentation", server)
    return server, create_dataset(name="voc", root=root, download=True)


def test_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server, dataset = download(devkit, tmp_path, monkeypatch)
    assert (server.calls, len(dataset.train)) == (1, 2)
    server, _ = download(devkit, tmp_path, monkeypatch)
    assert server.calls == 0  # it is there


@pytest.mark.parametrize(
    "failure", [URLError("timed out"), ConnectionResetError("timed out"), RuntimeError("timed out\nhere")]
)
def test_a_server_that_does_not_answer(
    failure: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError) as caught:
        download(failure, tmp_path, monkeypatch)
    message = str(caught.value)
    for part in ("(timed out)", "http", "VOCtrainval_11-May-2012.tar", str(tmp_path), "VOCdevkit/VOC2012"):
        assert part in message
    assert "\n" not in message


def test_reading_needs_no_torch(tmp_path: Path) -> None:
    devkit(tmp_path)
    code = (
        "import sys\n"
        "from segmentation.data import create_dataset\n"
        "from segmentation.data.checks import check_samples\n"
        f"check_samples(create_dataset(name='voc', root={str(tmp_path)!r}))\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
