"""One class against the rest, split by seed, by file or by folders."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_data import divided, fill, flat, image, mask, save
from PIL import Image

from segmentation.data import create_dataset
from segmentation.data.binary_masks import BinaryMask
from segmentation.data.checks import check_samples
from segmentation.data.splits import write_split
from segmentation.errors import UserError

EXPECTED = mask(0, 1)


def first_mask(options: dict[str, Any], **more: Any) -> np.ndarray:
    dataset = create_dataset(**options, **more)
    check_samples(dataset)
    return dataset.train[0]["mask"]


@pytest.mark.parametrize("values", [(0, 1), (0, 255), (0, 3), (0, 100)])
def test_threshold_is_found(values: tuple[int, int], tmp_path: Path) -> None:
    decoded = first_mask(flat(tmp_path, values=values))
    assert (decoded.dtype, decoded.flags.writeable) == (np.uint8, True)
    assert np.array_equal(decoded, EXPECTED)


@pytest.mark.parametrize("high", [1, 255])
def test_gif_masks_are_found_beside_their_images(high: int, tmp_path: Path) -> None:
    options = flat(tmp_path)
    for path in (tmp_path / "masks").iterdir():
        save(path.with_suffix(".gif"), mask(0, high))
        path.unlink()
    assert np.array_equal(first_mask(options), EXPECTED)


@pytest.mark.parametrize("high", [1, 255])
@pytest.mark.parametrize("kind", ["P", "L", "LA", "I;16", "RGB", "RGBA", "coloured palette"])
def test_kinds_of_files(kind: str, high: int, tmp_path: Path) -> None:
    options = flat(tmp_path)
    for path in (tmp_path / "masks").iterdir():
        values = mask(0, high)
        if kind == "I;16":
            save(path, values.astype(np.uint16))
        elif kind == "coloured palette":
            picture = Image.fromarray(values)
            picture.putpalette([0, 0, 0] + [200, 0, 0] * 255)
            picture.save(path)
        else:
            save(path, values, kind)
    assert np.array_equal(first_mask(options), EXPECTED)


@pytest.mark.parametrize("threshold", ["auto", 0, 254])
def test_one_bit_masks_need_no_threshold(threshold: Any, tmp_path: Path) -> None:
    options = flat(tmp_path)
    for path in (tmp_path / "masks").iterdir():
        save(path, mask(0, 255), "1")
    assert np.array_equal(first_mask(options, threshold=threshold), EXPECTED)


def test_palette_of_greys_is_read_by_its_greys(tmp_path: Path) -> None:
    options = flat(tmp_path)
    for path in (tmp_path / "masks").iterdir():
        picture = Image.fromarray(mask(1, 0))
        picture.putpalette([255, 255, 255, 0, 0, 0])  # as drawn by a program that puts white first
        picture.save(path, transparency=b"\x00\xff")
    assert np.array_equal(first_mask(options), EXPECTED)


def test_a_palette_that_begins_with_another_colour_is_refused(tmp_path: Path) -> None:
    picture = Image.fromarray(mask(1, 0))
    picture.putpalette([200, 0, 0, 0, 0, 0])
    picture.save(tmp_path / "a.png")
    with pytest.raises(UserError, match="black at another place of its palette"):
        BinaryMask(127).decode(tmp_path / "a.png")


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpeg_masks_survive_their_noise(mode: str, tmp_path: Path) -> None:
    truth = np.zeros((64, 64), np.uint8)
    truth[16:48, 16:48] = 1
    for number in range(4):
        save(tmp_path / "images" / f"{number}.jpg", image(64, 64))
        save(tmp_path / "masks" / f"{number}.jpg", truth * 255, mode, quality=75)
    assert np.array_equal(first_mask({"name": "binary", "root": str(tmp_path)}), truth)


def test_threshold_by_hand(tmp_path: Path) -> None:
    assert np.array_equal(first_mask(flat(tmp_path, values=(0, 1, 2, 3)), threshold=1), mask(0, 0, 1, 1))


@pytest.mark.parametrize(
    ("values", "ignore", "threshold", "expected"),
    [
        ((0, 1, 255), 255, "auto", (0, 1, 255)),
        ((0, 255, 128), 128, "auto", (0, 1, 255)),
        ((0, 50, 200), 0, 127, (255, 0, 1)),
    ],
)
def test_ignored_value(
    values: tuple[int, ...], ignore: int, threshold: Any, expected: tuple[int, ...], tmp_path: Path
) -> None:
    decoded = first_mask(flat(tmp_path, values=values), ignore=ignore, threshold=threshold)
    assert np.array_equal(decoded, mask(*expected))


def test_rare_foreground_is_looked_for(tmp_path: Path) -> None:
    flat(tmp_path, count=60, values=(0,))
    options: dict[str, Any] = {"name": "binary", "root": str(tmp_path)}
    name = create_dataset(**options, threshold=127).train.names[1]
    save(tmp_path / "masks" / f"{name}.png", mask(0, 1))
    decoder = create_dataset(**options).train.labels.decoder  # type: ignore[attr-defined]
    assert decoder == BinaryMask(0, None, 1)


def test_soft_edges_may_hold_one(tmp_path: Path) -> None:
    values = (0, 1, 5, 10, 20, 40, 200, 240, 255, 255, 255, 255)
    options = flat(tmp_path, values=values)
    assert np.array_equal(first_mask(options), mask(*(value > 127 for value in values)))
    (note,) = create_dataset(**options).notes
    assert "9 values of grey, and 28.6% of the pixels that are not black are not white" in note
    dataset = create_dataset(**options)
    save(dataset.train.labels.path(0), mask(0, 1, 255))  # type: ignore[attr-defined]
    assert np.array_equal(dataset.train[0]["mask"], mask(0, 0, 1))


@pytest.mark.parametrize("suffix", ["", "_split"])
@pytest.mark.parametrize("test", [True, False])
def test_folders(suffix: str, test: bool, tmp_path: Path) -> None:
    for number, split in enumerate(("train", "val", "test")[: 2 + test]):
        fill(tmp_path / f"{split}{suffix}", 2, start=10 * number)
    dataset = create_dataset(name="binary", root=tmp_path)
    check_samples(dataset)
    assert dataset.names() == {
        "train": ["p0", "p1"],
        "val": ["p10", "p11"],
        "test": ["p20", "p21"] if test else ["p10", "p11"],
    }
    assert dataset.notes == (() if test else ("There is no test folder: val is used as test.",))


def test_same_names_in_two_folders_are_noted(tmp_path: Path) -> None:
    for split in ("train", "val"):
        fill(tmp_path / split, 5)
    notes = create_dataset(name="binary", root=tmp_path).notes
    assert any("5 file names occur in both train and val (p0, p1, p2, ...)" in note for note in notes)


def test_classes(tmp_path: Path) -> None:
    classes = create_dataset(**divided(tmp_path)).classes
    assert (classes.names, classes.binary) == (("background", "foreground"), True)


def test_a_split_is_given_back(tmp_path: Path) -> None:
    options = flat(tmp_path / "data", count=20)
    first = create_dataset(**options, seed=3)
    write_split(tmp_path / "split.csv", first)
    again = create_dataset(**options, seed=4, split=tmp_path / "split.csv")
    assert again.names() == first.names() != create_dataset(**options, seed=4).names()


def test_coloured_masks_are_named(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.dstack([mask(0, 33), mask(0, 0), mask(0, 0)]))
    with pytest.raises(UserError, match=r"a\.png is coloured"):
        BinaryMask(127).decode(path)


@pytest.mark.parametrize(
    ("values", "mode", "words"), [((0, 1000), "uint16", "value 1000"), ((0, 1), "CMYK", "mode CMYK")]
)
def test_other_files(values: tuple[int, int], mode: str, words: str, tmp_path: Path) -> None:
    wide = np.array([values], np.uint16)
    path = tmp_path / "a.tif"
    save(path, wide) if mode == "uint16" else save(path, wide.astype(np.uint8), mode)
    with pytest.raises(UserError, match=words):
        BinaryMask(127).decode(path)
