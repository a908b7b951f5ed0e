"""Folders are listed quickly and paired by stem."""

import os
import pickle
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_data import image, mask, save

from segmentation.data.binary_masks import BinaryMask
from segmentation.data.dataset import FileDataset, MaskFiles
from segmentation.data.files import (
    Listing,
    Names,
    contents,
    encode_names,
    evenly_spaced,
    list_files,
    pair_folders,
)
from segmentation.data.splits import split_names
from segmentation.errors import UserError


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def listed(folder: Path) -> list[str]:
    found = list_files(folder, "")
    return [
        os.fsdecode(stem + b"." + ending) for stem, ending in zip(found.stems, found.endings, strict=True)
    ]


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    names = [ODD, "ä", "b"]
    for name in names:
        save(tmp_path / "images" / f"{name}.png", image())
        save(tmp_path / "masks" / f"{name}.png", mask(0, 1))
    pairs = pair_folders(tmp_path / "images", tmp_path / "masks", "")
    assert sorted(pairs.names) == sorted(names)
    assert all(pairs.image_path(index).is_file() and pairs.mask_path(index).is_file() for index in range(3))


def test_known_endings_in_any_case_and_nothing_else(tmp_path: Path) -> None:
    names = ("a.JPG", "b.Png", "c.d.tiff", "e.webp", ".hidden.png", ".png", "notes.txt", "png", "f.png~")
    (touch(tmp_path, *names) / "folder.png").mkdir()
    assert listed(tmp_path) == ["a.JPG", "b.Png", "c.d.tiff", "e.webp"]


def test_arrays_are_images_and_no_masks(tmp_path: Path) -> None:
    images, masks = touch(tmp_path / "images", "a.npy"), touch(tmp_path / "masks", "a.png", "b.npy")
    assert pair_folders(images, masks, "").image_path(0).name == "a.npy"


def test_links_are_followed_and_broken_ones_left_out(tmp_path: Path) -> None:
    real = touch(tmp_path / "real", "a.png")
    folder = touch(tmp_path / "images")
    (folder / "linked.png").symlink_to(real / "a.png")
    (folder / "broken.png").symlink_to(real / "gone.png")
    (tmp_path / "way").symlink_to(folder)
    assert listed(tmp_path / "way") == ["linked.png"]


def test_pairs_are_sorted_by_stem_whatever_the_endings(tmp_path: Path) -> None:
    images = touch(tmp_path / "images", "b.jpg", "a.jpeg", "c.png")
    masks = touch(tmp_path / "masks", "c.tif", "b.png", "a.PNG")
    pairs = pair_folders(images, masks, "")
    assert pairs.names == ["a", "b", "c"]
    assert [pairs.image_path(index).name for index in range(3)] == ["a.jpeg", "b.jpg", "c.png"]
    assert [pairs.mask_path(index) for index in range(3)] == [
        masks / "a.PNG",
        masks / "b.png",
        masks / "c.tif",
    ]


def test_files_that_are_taken_stay_pairs(tmp_path: Path) -> None:
    images = touch(tmp_path / "images", "a.jpg", "b.jpg", "c.jpg")
    masks = touch(tmp_path / "masks", "a.png", "b.png", "c.png")
    pairs = pair_folders(images, masks, "")
    taken = [files.take(np.array([2, 0])) for files in (pairs.images, pairs.masks)]
    assert [[files.path(index).name for index in range(2)] for files in taken] == [
        ["c.jpg", "a.jpg"],
        ["c.png", "a.png"],
    ]


@pytest.mark.parametrize("missing", [1, 3, 4])
def test_missing_partners_are_counted_and_three_are_named(missing: int, tmp_path: Path) -> None:
    names = [f"{letter}.png" for letter in "abcdef"]
    images, masks = touch(tmp_path / "images", *names), touch(tmp_path / "masks", *names[missing:])
    with pytest.raises(UserError, match=f"^{missing} of 6 images") as caught:
        pair_folders(images, masks, "")
    shown = ", ".join("abcdef"[: min(missing, 3)]) + (", ..." if missing > 3 else "")
    assert f"({shown})" in str(caught.value)


@pytest.mark.parametrize(
    ("image_name", "mask_name", "words"),
    [
        ("{}", "{}_L", "end in '' here and '_L' there"),
        ("{}_leftImg8bit", "{}_gtFine_labelIds", "end in 'leftImg8bit' here and 'gtFine_labelIds' there"),
        ("img_{}", "mask_{}", "begin with 'img' here and 'mask' there"),
        ("x{}", "{}", "begin with 'x' here and '' there"),
    ],
)
def test_names_that_all_differ_alike(image_name: str, mask_name: str, words: str, tmp_path: Path) -> None:
    images = touch(tmp_path / "images", *(f"{image_name.format(each)}.jpg" for each in "abc"))
    masks = touch(tmp_path / "masks", *(f"{mask_name.format(each)}.png" for each in "abc"))
    with pytest.raises(UserError, match=f"3 of 3 images.*{words}, rename them alike"):
        pair_folders(images, masks, "")


def test_names_in_both_forms_of_unicode_are_pairs(tmp_path: Path) -> None:
    composed, taken_apart = "\u00e9", "e\u0301"  # as Linux and macOS write é
    images = touch(tmp_path / "images", f"{composed}1.png", f"{taken_apart}2.png", "f.png")
    masks = touch(tmp_path / "masks", f"{taken_apart}1.png", f"{composed}2.png", "f.png")
    pairs = pair_folders(images, masks, "")
    assert pairs.names == ["f", f"{composed}1", f"{composed}2"]
    for files in (pairs.images, pairs.masks, pairs.images.take(np.array([2, 1]))):
        assert all(files.path(index).is_file() for index in range(len(files)))
    touch(images, f"{taken_apart}1.png")
    with pytest.raises(UserError, match="which have the same name: keep one"):
        pair_folders(images, masks, "")


def test_contents_stay_short(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{number:03d}" for number in range(100)), ".hidden")
    assert contents(tmp_path) == "000, 001, 002, 003, 004, 005, 006, 007, ..."


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match="cannot be listed: Permission denied"):
        list_files(tmp_path, "")


class _Entry:
    def __init__(self, name: bytes) -> None:
        self.name = name

    def is_file(self) -> bool:
        return True


class _Listing:
    """What a folder with many files gives, without making them."""

    def __init__(self, count: int, ending: str) -> None:
        self._names = (f"picture_{number:07d}.{ending}".encode() for number in range(count))

    def __enter__(self) -> "_Listing":
        return self

    def __exit__(self, *error: object) -> None: ...

    def __iter__(self) -> "_Listing":
        return self

    def __next__(self) -> _Entry:
        return _Entry(next(self._names))


def test_many_files_take_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 100_000
    touch(tmp_path / "images"), touch(tmp_path / "masks")
    endings = {"images": "jpg", "masks": "png"}
    monkeypatch.setattr(
        os, "scandir", lambda folder: _Listing(count, endings[Path(os.fsdecode(folder)).name])
    )
    start = time.process_time()
    listed = sorted(
        entry.name for folder in (tmp_path / "images", tmp_path / "masks") for entry in os.scandir(folder)
    )
    listing = time.process_time() - start
    assert len(listed) == 2 * count
    del listed
    start = time.process_time()
    pairs = pair_folders(tmp_path / "images", tmp_path / "masks", "")
    files = FileDataset(pairs.images, MaskFiles(pairs.masks, BinaryMask(0)))
    divided = split_names(files.names, fractions=(0.7, 0.15, 0.15), seed=0)
    parts = {split: files.take(part) for split, part in divided.items()}
    # In multiples of what naming and sorting them takes, so that a slow or busy machine changes nothing.
    assert time.process_time() - start < 25 * listing
    assert sum(map(len, parts.values())) == count


def test_many_files_take_few_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 20_000
    touch(tmp_path / "images"), touch(tmp_path / "masks")
    endings = {"images": "jpg", "masks": "png"}
    monkeypatch.setattr(
        os, "scandir", lambda folder: _Listing(count, endings[Path(os.fsdecode(folder)).name])
    )
    tracemalloc.start()
    pairs = pair_folders(tmp_path / "images", tmp_path / "masks", "")
    files = FileDataset(pairs.images, MaskFiles(pairs.masks, BinaryMask(0)))
    divided = split_names(files.names, fractions=(0.7, 0.15, 0.15), seed=0)
    parts = {split: files.take(part) for split, part in divided.items()}
    del pairs, files, divided
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(parts["train"]) == 0.7 * count
    # The names of image and mask, 15 bytes each, and two endings; and on the way one list of bytes objects at a time.
    assert kept / count < 48
    assert peak / count < 180  # a million: 180 MB


def test_reading_a_pair_needs_no_listing(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png", image())
    save(tmp_path / "masks" / "a.png", mask(0, 1))
    pairs = pair_folders(tmp_path / "images", tmp_path / "masks", "")
    assert (len(pairs), pairs.image_path(0).is_file(), pairs.mask_path(0).is_file()) == (1, True, True)


ODD = os.fsdecode(b"caf\xe9")
"""A name that is not UTF-8."""

texts = st.lists(
    st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=6) | st.just(ODD)
)


@given(texts)
def test_names_are_read_like_a_list(names: list[str]) -> None:
    packed = Names(encode_names(names))
    assert (len(packed), list(packed), packed) == (len(names), names, names)
    assert packed != [*names, "x"]
    assert [packed[index] for index in range(-len(names), len(names))] == names + names
    assert packed[1:3] == names[1:3]
    assert pickle.loads(pickle.dumps(packed)) == names
    with pytest.raises(IndexError):
        packed[len(names)]


def test_iterating_many_names() -> None:
    names = [str(number) for number in range(10_000)]
    assert Names(encode_names(names)) == names


@given(st.integers(1, 10**6), st.integers(2, 20))
def test_spread(length: int, count: int) -> None:
    places = evenly_spaced(length, count)
    assert places == sorted(set(places))
    assert len(places) == min(length, count)
    assert (places[0], places[-1]) == (0, length - 1)
    gaps = np.diff(places)
    assert not len(gaps) or gaps.max() - gaps.min() <= 1


@given(st.sets(st.text("abé", min_size=1, max_size=3), min_size=1), st.text("abé", min_size=1, max_size=4))
def test_files_are_found_by_stem(names: set[str], asked: str) -> None:
    stems = np.sort(encode_names(names))
    (index,) = Listing(Path(), stems, stems, np.full(len(stems), b"png")).find(encode_names([asked]))
    assert (index >= 0) == (asked in names)
    assert asked not in names or Names(stems)[index] == asked
