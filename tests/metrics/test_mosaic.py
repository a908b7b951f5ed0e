"""Objects of scenes in blocks are those of the scene as one image."""

import pickle
from itertools import pairwise

import numpy as np
import pytest
from test_objects import BINARY, THREE, blocks, by_force

from segmentation.metrics import mosaic
from segmentation.metrics.mosaic import Piece, Region, matched_whole, pieces
from segmentation.metrics.objects import ObjectMetrics, ObjectRules, Row
from segmentation.types import Area, Classes


def cut(truth: np.ndarray, seed: int) -> list[Area]:
    """Blocks of uneven sides, some trimmed as beside a buffer."""
    random = np.random.default_rng(seed)
    rows, columns = (
        [0, *sorted(random.choice(np.arange(1, side), 3, replace=False).tolist()), side]
        for side in truth.shape
    )
    return [
        Area(0, top, left, bottom, right)
        for top, bottom in pairwise(rows)
        for left, right in pairwise(columns)
    ]


def kept_of(
    truth: np.ndarray, predicted: np.ndarray, parts: list[Area], classes: Classes, rules: ObjectRules
) -> list[Piece | Region]:
    return [
        each
        for index, area in enumerate(parts)
        for each in pieces(
            index,
            area,
            truth[area.top : area.bottom, area.left : area.right],
            predicted[area.top : area.bottom, area.left : area.right],
            classes,
            rules,
        )
    ]


def counted(
    kept: list[Piece | Region], parts: list[Area], classes: Classes, rules: ObjectRules
) -> tuple[ObjectMetrics, list[Row]]:
    metrics, rows = ObjectMetrics(classes, rules), []
    for objects, own in matched_whole(kept, parts, rules):
        metrics.count(objects)
        rows += [row for _, row in own]
    return metrics, rows


@pytest.mark.parametrize("classes", [BINARY, THREE], ids=["binary", "several"])
@pytest.mark.parametrize("ignored", [0.0, 0.3])
@pytest.mark.parametrize(
    "rules", [ObjectRules(), ObjectRules(min_area=4), ObjectRules(watershed=True)], ids=str
)
def test_blocks_give_the_objects_of_the_whole(classes: Classes, ignored: float, rules: ObjectRules) -> None:
    for seed in range(6):
        truth, predicted = blocks(seed, len(classes), ignored=ignored)
        parts = cut(truth, seed)
        found, rows = counted(kept_of(truth, predicted, parts, classes, rules), parts, classes, rules)
        whole = ObjectMetrics(classes, rules)
        expected = whole.update(truth, predicted)
        assert found.found.tolist() == whole.found.tolist(), seed
        assert str(found.report()) == str(whole.report())  # nan is unequal to itself
        assert sorted(rows) == sorted(expected)
        if not rules.watershed:
            assert rows == expected
        if seed < 2 and not rules.watershed:
            assert found.found.tolist() == by_force(truth, predicted, classes, rules.min_area).tolist()


@pytest.mark.parametrize("rules", [ObjectRules(), ObjectRules(watershed=True)], ids=["plain", "watershed"])
def test_an_object_ends_where_no_image_is(rules: ObjectRules) -> None:
    for seed in range(8):
        truth, predicted = blocks(seed, 2, ignored=0.1)
        parts = cut(truth, seed)
        gone = parts.pop(5)
        truth[gone.top : gone.bottom, gone.left : gone.right] = 255
        predicted[gone.top : gone.bottom, gone.left : gone.right] = 0
        found, _ = counted(kept_of(truth, predicted, parts, BINARY, rules), parts, BINARY, rules)
        whole = ObjectMetrics(BINARY, rules)
        whole.update(truth, predicted)
        assert found.found.tolist() == whole.found.tolist()


def test_crowns_that_touch_across_a_border_are_parted_as_in_one_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows, columns = np.mgrid[:60, :90]
    crowns = ((rows - 30) ** 2 + (columns - 28) ** 2 < 400) | ((rows - 30) ** 2 + (columns - 62) ** 2 < 400)
    truth = crowns.astype(np.uint8)
    parts = [Area(3, 0, 0, 60, 31), Area(3, 0, 31, 20, 90), Area(3, 20, 31, 60, 90)]
    rules = ObjectRules(watershed=True)
    kept = kept_of(truth, truth, parts, BINARY, rules)
    found, rows_ = counted(kept, parts, BINARY, rules)
    assert found.found[1].tolist() == [[2, 0, 0]] * 10
    whole = ObjectMetrics(BINARY, rules).update(truth, truth)
    assert [row.true_area for row in rows_] == [row.true_area for row in whole]
    # What is too large to be put together is parted by images.
    monkeypatch.setattr(mosaic, "_LARGEST", 100)
    assert counted(kept, parts, BINARY, rules)[0].found[1, 0, 0] > 2


def test_what_is_kept_are_numbers_and_borders() -> None:
    truth = np.ones((512, 512), np.uint8)
    for rules in (ObjectRules(), ObjectRules(watershed=True)):
        kept = kept_of(truth, truth, [Area(0, 0, 0, 512, 512)], BINARY, rules)
        assert len(pickle.dumps(kept)) < 200_000
