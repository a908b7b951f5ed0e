"""Scores of single images are those of a data set that has only this image."""

import math

import numpy as np
import pytest
import torch

from segmentation.metrics import image_counts, image_means, image_scores, scores
from segmentation.metrics.confusion import columns
from segmentation.types import IGNORE_INDEX


@pytest.mark.parametrize("classes", [2, 5, 255])
def test_each_image_on_its_own(classes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    labels, mask = (torch.randint(classes, (5, 9, 11), generator=generator).byte() for _ in range(2))
    mask[torch.rand(mask.shape, generator=generator) < 0.2] = IGNORE_INDEX
    mask[3] = IGNORE_INDEX
    counts_BKK = image_counts(labels, mask, classes)
    rows = image_scores(counts_BKK, binary=classes == 2)
    table = columns(counts_BKK, binary=classes == 2)
    for index, row in enumerate(rows):
        valid = mask[index] != IGNORE_INDEX
        counts = np.zeros((classes, classes), int)
        np.add.at(counts, (mask[index][valid].numpy(), labels[index][valid].numpy()), 1)
        np.testing.assert_array_equal(counts_BKK[index].numpy(), counts)
        alone = scores(torch.from_numpy(counts), binary=classes == 2)
        assert row == pytest.approx({name: alone[name] for name in row}, nan_ok=True)
        among = {name: float(values[index]) for name, values in table.items()}
        assert among == pytest.approx(alone, nan_ok=True)
        assert ("iou" in row) == (classes == 2)
    assert all(math.isnan(value) for value in rows[3].values())


def test_mean_and_median_leave_out_what_is_undefined() -> None:
    values = [0.1, math.nan, 0.3, 0.8]
    rows = [{"miou": value, "dice": math.nan, "pixel_accuracy": 1.0} for value in values]
    means = image_means(rows, binary=False)
    assert means == pytest.approx(
        {
            "image_miou_mean": 0.4,
            "image_miou_median": 0.3,
            "image_dice_mean": math.nan,
            "image_dice_median": math.nan,
            "image_pixel_accuracy_mean": 1,
            "image_pixel_accuracy_median": 1,
        },
        nan_ok=True,
    )
