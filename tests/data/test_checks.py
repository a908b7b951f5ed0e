"""Checks of a data set before a run: what ends it, and what is said."""

from pathlib import Path

import numpy as np
import pytest
from made_data import flat, folders, image, mask, save
from PIL import Image

from segmentation.data import create_dataset, open_dataset
from segmentation.data.checks import check_samples
from segmentation.data.dataset import SegmentationDataset
from segmentation.data.findings import turned_images
from segmentation.errors import UserError
from segmentation.types import Classes, Sample


class Recorded:
    """`length` equal samples that remember which of them were read."""

    def __init__(self, length: int, *labels: int) -> None:
        self.length = length
        self.labels = labels or (0, 1)
        self.read: list[int] = []

    @property
    def names(self) -> list[str]:
        return [str(index) for index in range(self.length)]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        self.read.append(index)
        mask = np.array([self.labels], np.uint8)
        return {"image": np.zeros((*mask.shape, 3), np.uint8), "mask": mask, "name": str(index)}


def dataset_of(train: Recorded, test: Recorded | None = None, *, binary: bool = False) -> SegmentationDataset:
    val = Recorded(5)
    return SegmentationDataset(Classes(("a", "b"), binary=binary), train, val, val if test is None else test)


def test_few_samples_of_many_are_read() -> None:
    train = Recorded(1_000_000)
    check_samples(dataset_of(train))
    assert len(train.read) == 16


def test_val_that_serves_as_test_is_read_once() -> None:
    val = Recorded(5)
    check_samples(SegmentationDataset(Classes(("a", "b")), Recorded(5), val, val))
    assert val.read == [0, 1, 2, 3, 4]


def test_empty_split() -> None:
    with pytest.raises(UserError, match="The test split has no images"):
        check_samples(dataset_of(Recorded(3), Recorded(0)))


def test_nothing_to_learn_from() -> None:
    with pytest.raises(UserError, match="All pixels are ignored in the 3 train masks that were checked"):
        check_samples(dataset_of(Recorded(3, 255)))


def test_0_and_255_are_suspicious_only_among_several_classes() -> None:
    with pytest.raises(UserError, match="dataset=binary"):
        check_samples(dataset_of(Recorded(3, 0, 255)))
    check_samples(dataset_of(Recorded(3, 0, 1, 255), Recorded(3, 0, 255), binary=True))


@pytest.mark.parametrize("labels", [(0, 255), (255,)])
def test_what_few_masks_do_not_hold_may_be_in_others(labels: tuple[int, ...]) -> None:
    class Rare(Recorded):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            return {**sample, "mask": np.array([[1, 255]], np.uint8)} if index == 77 else sample

    assert check_samples(dataset_of(Recorded(5), Rare(200, *labels))) == ()
    (note,) = check_samples(dataset_of(Recorded(5), Recorded(2000, *labels)))
    assert "1024 test masks that were checked" in note


@pytest.mark.parametrize("binary", [False, True])
def test_the_built_in_data_is_good(binary: bool) -> None:
    built_in = create_dataset(name="shapes", size=48, train=2, val=2, test=2, binary=binary)
    check_samples(built_in)
    assert built_in.names()["train"] == [built_in.train[index]["name"] for index in range(2)]


def test_few_masks_are_searched_for_a_class() -> None:
    train = Recorded(1_000_000, 0)
    (note,) = check_samples(dataset_of(train))
    assert len(train.read) == 16 + 128
    assert note == "128 of 1000000 train masks, evenly spaced, hold no pixel of b."


def test_classes_that_no_mask_holds_are_said(tmp_path: Path) -> None:
    options = folders(tmp_path, (1, 2), names=["pet", "ground", "outline"])
    (note,) = open_dataset(**options).notes
    assert note.startswith("The 2 train masks hold no pixel of pet. Where labels begin at 1")


def test_masks_of_one_class_alone_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^The 4 train masks hold nothing but foreground: correct the masks"):
        open_dataset(**flat(tmp_path, values=(255,)))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("square", [False, True])
def test_images_that_turn_without_changing_their_size_are_counted(
    orientation: int, square: bool, tmp_path: Path
) -> None:
    options = flat(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = orientation
    name = create_dataset(**options).train.names[1]
    (tmp_path / f"images/{name}.png").unlink()
    width = 8 if square else 12
    height, width = (8, width) if orientation < 5 else (width, 8)
    save(tmp_path / f"images/{name}.jpg", image(height, width), exif=exif)
    save(tmp_path / f"masks/{name}.png", mask(0, 255, width=8 if square else 12))
    notes = open_dataset(**options).notes
    unseen = orientation in (2, 3, 4) or (orientation > 4 and square)
    assert len(notes) == unseen
    assert not unseen or notes[0].startswith("EXIF orientation turns 1 of 4 train images")
    # A mask that turns with its image is right.
    save(tmp_path / f"masks/{name}.png", np.zeros((height, width), np.uint8), exif=exif)
    assert open_dataset(**options).notes == ()


def test_a_note_says_of_how_many_images_it_is() -> None:
    (found,) = turned_images("train", ["a"], 512, 9000)
    assert found.text.startswith("EXIF orientation turns 1 of the 512 of 9000 train images looked at without")
