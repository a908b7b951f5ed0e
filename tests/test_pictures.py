"""Pictures of images with any number of channels."""

import numpy as np
import pytest

from segmentation.types import Classes
from segmentation.visualization import as_rgb, contact_sheet, side_by_side


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 8])
def test_any_channels_are_shown(channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, channels), dtype=np.uint8)
    shown = as_rgb(image)
    assert (shown.shape, shown.dtype) == ((20, 30, 3), np.uint8)
    expected = [0, 0, 0] if channels < 3 else [0, 1, 2]
    assert np.array_equal(shown, image[:, :, expected])
    mask = np.zeros((20, 30), np.uint8)
    page = side_by_side([(image, mask, mask)], Classes(("a", "b")), height=20)
    assert np.array_equal(np.asarray(page)[24:44, 8:38], shown)


def test_a_caption_wider_than_its_picture_is_cut() -> None:
    sheet = contact_sheet([[np.zeros((90, 1, 3), np.uint8)]], ["a long caption"], height=90)
    assert sheet.width == 17
