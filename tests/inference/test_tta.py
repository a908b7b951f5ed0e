"""Test-time augmentation: what it must leave alone, and what it averages."""

import pytest
import torch
from made_predictors import near

from segmentation.errors import UserError
from segmentation.inference.tta import Augmentation, describe_tta, tta_views
from segmentation.models import resize

IMAGES = torch.randint(0, 256, (2, 3, 41, 57), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
SIZE = (41, 57)


@pytest.mark.parametrize(("tta", "axis"), [("flip", -1), ("vertical_flip", -2), (["scales", "flip"], -1)])
def test_the_mirrored_images_answer_is_mirrored(tta: Augmentation, axis: int) -> None:
    predictor = near(tta=tta)
    straight = predictor.probabilities(IMAGES, size=SIZE)
    mirrored = predictor.probabilities(IMAGES.flip(axis), size=SIZE).flip(axis)
    torch.testing.assert_close(straight, mirrored, atol=2e-6, rtol=0)


@pytest.mark.parametrize("binary", [False, True])
def test_probabilities_of_the_views_are_averaged(binary: bool) -> None:
    plain = near(binary=binary)
    half = resize(IMAGES.float(), (round(41 * 0.5), round(57 * 0.5)))
    expected = (plain.probabilities(IMAGES, size=SIZE) + plain.probabilities(half, size=SIZE)) / 2
    found = near(binary=binary, tta=0.5).probabilities(IMAGES, size=SIZE)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert found.shape == (2, 1 if binary else 3, *SIZE)


@pytest.mark.parametrize(
    ("tta", "count"),
    [
        ("none", 1),
        ([], 1),
        ("flip", 2),
        ("scales", 3),
        (["flip", "vertical_flip", 0.5, 2], 12),
        ([1.0], 1),
        (["flip", "flip"], 2),
    ],
)
def test_flips_and_scales_are_combined(tta: Augmentation, count: int) -> None:
    chosen = tta_views(tta)
    assert len(chosen) == len(set(chosen)) == count
    assert (describe_tta(chosen) == "none") == (count == 1)


@pytest.mark.parametrize("tta", ["flop", ["flip", "none"], 9, 0, True, [["flip"]]])
def test_unknown_views_are_refused(tta: Augmentation) -> None:
    with pytest.raises(UserError, match="tta="):
        near(tta=tta)
