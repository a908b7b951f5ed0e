"""Objects of a mask: connected regions against SciPy's, and touching objects parted."""

import cv2
import numpy as np
import pytest
from scipy import ndimage

from segmentation.components import find_objects


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("watershed", [False, True])
def test_objects_are_the_connected_regions(share: float, watershed: bool) -> None:
    for seed in range(5):
        region = np.random.default_rng(seed).random((17, 23)) < share
        objects = find_objects(region, watershed=watershed)
        wholes, count = ndimage.label(region, np.ones((3, 3)))
        assert len(objects) >= count if watershed else len(objects) == count
        assert ((objects.labels > 0) == region).all()
        corners = [(top, left) for left, top, _, _ in objects.boxes.tolist()]
        assert corners == sorted(corners)
        for index, (left, top, width, height) in enumerate(objects.boxes.tolist()):
            one = objects.labels == index + 1
            assert ndimage.label(one, np.ones((3, 3)))[1] == 1
            assert len(np.unique(wholes[one])) == 1
            assert one.sum() == one[top : top + height, left : left + width].sum() == objects.areas[index]
            y, x = ndimage.center_of_mass(one)
            assert objects.centroids[index] == pytest.approx((x, y))
            rows, columns = np.nonzero(one)
            assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (height, width)


def drawn(*discs: tuple[int, int, int]) -> np.ndarray:
    canvas = np.zeros((120, 160), np.uint8)
    for x, y, radius in discs:
        cv2.circle(canvas, (x, y), radius, 1, -1)
    return canvas > 0


L_SHAPE, CORNERS, RAGGED = np.zeros((3, 120, 160), bool)
L_SHAPE[10:110, 10:30] = L_SHAPE[90:110, 10:140] = True
CORNERS[10:60, 10:60] = CORNERS[60:100, 58:150] = True
RAGGED[60, 10:150] = RAGGED[61, 10:150:2] = RAGGED[59, 11:150:3] = True


@pytest.mark.parametrize(
    ("region", "parts"),
    [
        (drawn((40, 60, 20)), 1),
        (drawn((40, 60, 20), (50, 60, 20)), 1),  # one bulge
        (drawn((40, 60, 20), (75, 60, 20)), 2),
        (drawn((40, 60, 20), (75, 60, 20), (110, 60, 20), (75, 90, 14)), 4),
        (drawn((40, 60, 24), (70, 60, 8)), 2),  # of different sizes
        (L_SHAPE, 1),
        (CORNERS, 2),
        (RAGGED, 1),
        (np.ones((120, 160), bool), 1),
    ],
)
def test_touching_objects_are_parted_at_their_necks(region: np.ndarray, parts: int) -> None:
    assert len(find_objects(region)) == 1
    for turned in (region, region.T, region[::-1, ::-1]):
        assert len(find_objects(turned, watershed=True)) == parts


def test_the_parts_of_two_discs_meet_in_the_middle() -> None:
    objects = find_objects(drawn((40, 60, 20), (74, 60, 20)), watershed=True)
    assert objects.areas[0] == pytest.approx(objects.areas[1], rel=0.1)
    assert np.abs(objects.boxes[:, [0, 2]] - [[20, 37], [57, 38]]).max() <= 1
