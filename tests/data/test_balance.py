"""Counts of the classes in the training masks, and the weights that follow from them."""

from pathlib import Path

import numpy as np
import pytest
from made_data import image, mask, save

from segmentation.data import create_dataset
from segmentation.data.survey import class_weights, count_classes
from segmentation.errors import UserError


def test_classes_are_counted_without_ignored_pixels(tmp_path: Path) -> None:
    truths = [mask(0, 1, 255), mask(2), mask(255), mask(0, 0, 0, 1)]
    for number, truth in enumerate(truths):
        save(tmp_path / "train" / "images" / f"{number}.png", image())
        save(tmp_path / "train" / "masks" / f"{number}.png", truth)
        save(tmp_path / "val" / "images" / f"v{number}.png", image())
        save(tmp_path / "val" / "masks" / f"v{number}.png", mask(0, 1, 2))
    dataset = create_dataset(name="folder", root=str(tmp_path), names=["a", "b", "c"])
    counts = count_classes(dataset.train, 3)
    assert counts.tolist() == [[int((truth == label).sum()) for label in range(3)] for truth in truths]


def test_weights_are_those_of_the_paper() -> None:
    counts = np.array([[900, 90, 0], [0, 0, 10]])
    shares = np.array([0.9, 0.09, 0.01])
    expected = 1 / np.log(1.02 + shares)
    assert class_weights(counts) == pytest.approx((expected / expected[0]).tolist(), abs=1e-3)


def test_a_class_that_does_not_occur_weighs_as_the_rarest() -> None:
    first, second, third = class_weights(np.array([[99, 1, 0]]))
    assert (first, second) == (1, third)


def test_masks_without_labels_have_no_weights() -> None:
    with pytest.raises(UserError, match="no class weights"):
        class_weights(np.zeros((3, 2), np.int64))
