"""Object scores against a brute-force matcher and by hand."""

from fractions import Fraction
from itertools import product
from math import nan
from typing import Any

import numpy as np
import pytest
from scipy import ndimage
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from segmentation.components import Objects, _measures
from segmentation.metrics.objects import (
    THRESHOLDS,
    ObjectMetrics,
    ObjectRules,
    Row,
    match,
    shared_pixels,
    tally,
)
from segmentation.types import Classes

BINARY = Classes(("background", "roof"), binary=True)
THREE = Classes(("sky", "road", "car"))
Region = frozenset[tuple[int, int]]


def regions(chosen: np.ndarray) -> list[Region]:
    labels, count = ndimage.label(chosen, np.ones((3, 3)))
    return [
        frozenset(zip(*(axis.tolist() for axis in np.nonzero(labels == index)), strict=True))
        for index in range(1, count + 1)
    ]


def best_matching(edges: list[tuple[int, int]], cost: "Cost") -> tuple[int, list[tuple[int, int]]]:
    """Of the largest one-to-one subsets of the edges that of the least cost: its size, and itself."""
    if not edges:
        return 0, []
    (one, other), rest = edges[0], edges[1:]
    size, pairs = best_matching([edge for edge in rest if edge[0] != one and edge[1] != other], cost)
    taken = (size + 1, [(one, other), *pairs])
    left = best_matching(rest, cost)
    return max(taken, left, key=lambda found: (found[0], -cost(found[1])))


class Cost:
    """Misses and false alarms that a matching leaves."""

    def __init__(self, true_counts: list[bool], predicted_counts: list[bool]) -> None:
        self.true, self.predicted = true_counts, predicted_counts

    def errors(self, pairs: list[tuple[int, int]]) -> tuple[int, int]:
        found, used = {one for one, _ in pairs}, {other for _, other in pairs}
        return (
            sum(counts and index not in found for index, counts in enumerate(self.true)),
            sum(counts and index not in used for index, counts in enumerate(self.predicted)),
        )

    def __call__(self, pairs: list[tuple[int, int]]) -> int:
        return sum(self.errors(pairs))


def matched_by_force(
    true: list[Any], ours: list[Any], least: Fraction, cost: Cost
) -> tuple[list[tuple[int, int]], int, list[tuple[int, int]]]:
    """The pairs of sets of at least this IoU, the size of the largest matching, and the best matching."""
    edges = [
        (i, j)
        for (i, one), (j, other) in product(enumerate(true), enumerate(ours))
        if Fraction(len(one & other), len(one | other)) >= least
    ]
    size, pairs = best_matching(edges, cost)
    if edges:
        graph = csr_array(([1] * len(edges), tuple(zip(*edges, strict=True))), (len(true), len(ours)))
        assert size == (maximum_bipartite_matching(graph) >= 0).sum()
    return edges, size, pairs


def by_force(truth: np.ndarray, predicted: np.ndarray, classes: Classes, min_area: int) -> np.ndarray:
    """(K, T, 3) by trying all matchings, for each threshold anew, in fractions."""
    ignored = truth == 255
    pixels = frozenset(zip(*(axis.tolist() for axis in np.nonzero(ignored)), strict=True))
    found = np.zeros((len(classes), len(THRESHOLDS), 3), int)
    for label in classes.foreground:
        true, ours = regions(truth == label), regions((predicted == label) & ~ignored)
        wholes = regions(predicted == label)
        unsure = [
            any(2 * len(whole & pixels) > len(whole) and one <= whole for whole in wholes) for one in ours
        ]
        cost = Cost(
            [len(one) >= min_area for one in true],
            [len(one) >= min_area and not doubt for one, doubt in zip(ours, unsure, strict=True)],
        )
        for step in range(10):
            _, _, pairs = matched_by_force(true, ours, Fraction(10 + step, 20), cost)
            found[label, step] = sum(cost.true[one] for one, _ in pairs), *cost.errors(pairs)
    return found


def blocks(seed: int, classes: int, *, ignored: float) -> tuple[np.ndarray, np.ndarray]:
    """A truth of rectangles, and a prediction that differs by a few rectangles more."""
    random = np.random.default_rng(seed)
    truth = np.zeros((12, 16), np.uint8)

    def draw(mask: np.ndarray, count: int, high: int) -> np.ndarray:
        for _ in range(count):
            top, left = random.integers(0, (12, 16))
            height, width = random.integers(1, 5, 2)
            mask[top : top + height, left : left + width] = random.integers(0, high)
        return mask

    draw(truth, 10, classes)
    predicted = draw(truth.copy(), 7, classes)
    truth[random.random(truth.shape) < ignored * random.random()] = 255
    return truth, predicted


@pytest.mark.parametrize("classes", [BINARY, THREE], ids=["binary", "several"])
@pytest.mark.parametrize("ignored", [0.0, 0.3])
@pytest.mark.parametrize("min_area", [0, 4])
def test_counts_are_those_of_a_brute_force_matcher(classes: Classes, ignored: float, min_area: int) -> None:
    for seed in range(60):
        truth, predicted = blocks(seed, len(classes), ignored=ignored)
        metrics = ObjectMetrics(classes, ObjectRules(min_area=min_area))
        rows = metrics.update(truth, predicted)
        assert metrics.found.tolist() == by_force(truth, predicted, classes, min_area).tolist(), seed
        counts = tally(rows)
        assert [counts[name] for name in ("matches", "misses", "false_alarms")] == metrics.found[:, 0].sum(
            0
        ).tolist()


def of(labels: np.ndarray) -> Objects:
    """Objects of a map of their numbers 1..N, connected or not."""
    boxes, areas, centroids = _measures(labels)
    return Objects(labels, areas, boxes, centroids)


def renumbered(labels: np.ndarray) -> np.ndarray:
    return np.unique(np.append(labels, 0), return_inverse=True)[1][:-1].reshape(1, -1)


def test_objects_in_any_division_match_exactly() -> None:
    # A line of pixels, divided at random: some cases have a choice at an IoU of exactly 0.5.
    choices = 0
    for seed in range(300):
        random = np.random.default_rng(seed)
        lengths = random.integers(1, 4, (2, 12))
        truth, ours = (renumbered(np.repeat(random.permutation(12) % 9, each)[:12]) for each in lengths)
        flags = [of(truth).areas >= 2, random.random(ours.max()) < 0.7]
        cost = Cost(*(each.tolist() for each in flags))
        both = of(truth), of(ours)
        found = match(1, *both, shared_pixels(*both), *flags).counts()
        sets = [
            [frozenset(np.flatnonzero(each == n).tolist()) for n in range(1, each.max() + 1)]
            for each in (truth, ours)
        ]
        for step in range(10):
            edges, size, pairs = matched_by_force(*sets, Fraction(10 + step, 20), cost)
            choices += len(edges) > size
            assert found[step].tolist() == [sum(flags[0][one] for one, _ in pairs), *cost.errors(pairs)]
    assert choices > 10


def canvas(*boxes: tuple[int, int, int, int], label: int = 1) -> np.ndarray:
    mask = np.zeros((20, 40), np.uint8)
    for top, bottom, left, right in boxes:
        mask[top:bottom, left:right] = label
    return mask


SQUARE = canvas((4, 14, 4, 14))


def judged(truth: np.ndarray, predicted: np.ndarray, **rules: Any) -> ObjectMetrics:
    metrics = ObjectMetrics(BINARY, ObjectRules(**rules))
    metrics.update(truth, predicted)
    return metrics


def test_a_shifted_square_scores_as_on_paper() -> None:
    # 10 x 10, shifted by 2: 80 of 120 pixels are shared, 0.667: thresholds 0.5 to 0.65 hold, four of ten.
    metrics = judged(SQUARE, canvas((4, 14, 6, 16), (16, 18, 30, 34)))
    scores = metrics.scores()
    assert scores["object_precision"] == 1 / 2 and scores["object_recall"] == 1
    assert scores["object_f1"] == pytest.approx(2 / 3)
    assert scores["object_f1_50_95"] == pytest.approx(0.4 * 2 / 3)
    assert scores["object_recall_50_95"] == pytest.approx(0.4)
    assert metrics.report()["all_classes"] | {} == metrics.report()["per_class"]["roof"]
    assert metrics.report()["all_classes"]["true_area"] == 100
    assert metrics.report()["all_classes"]["predicted_area"] == 108
    assert metrics.report()["by_threshold"][4] == {"iou": 0.7, "matches": 0, "misses": 1, "false_alarms": 2}


def test_rows_say_what_and_where() -> None:
    rows = ObjectMetrics(BINARY, ObjectRules()).update(
        SQUARE + canvas((0, 2, 30, 40)), canvas((4, 14, 6, 16), (16, 18, 30, 34))
    )
    assert rows == [
        Row(1, "match", 100, 100, 80 / 120, (4, 4, 10, 10), (8.5, 8.5)),
        Row(1, "miss", 20, None, 0.0, (30, 0, 10, 2), (34.5, 0.5)),
        Row(1, "false_alarm", None, 8, 0.0, (30, 16, 4, 2), (31.5, 16.5)),
    ]
    assert tally(rows) == {
        **{"true_objects": 2, "predicted_objects": 2, "matches": 1, "misses": 1, "false_alarms": 1},
        **{"true_area": 120, "predicted_area": 108},
    }


NOTHING = canvas()
IGNORED = canvas((0, 20, 0, 40), label=255)


@pytest.mark.parametrize(
    ("truth", "predicted", "counts", "f1"),
    [
        (SQUARE, SQUARE, (1, 0, 0), 1.0),
        (NOTHING, SQUARE, (0, 0, 1), 0.0),
        (SQUARE, NOTHING, (0, 1, 0), 0.0),
        (NOTHING, NOTHING, (0, 0, 0), nan),
        (IGNORED, SQUARE, (0, 0, 0), nan),
        # The ignored border of an object takes nothing from either.
        (
            np.maximum(canvas((3, 15, 3, 15), label=255) * (SQUARE == 0), SQUARE),
            canvas((3, 15, 3, 15)),
            (1, 0, 0),
            1.0,
        ),
        # Six columns of ten are ignored: unmatched, it is not counted. With five it is.
        (canvas((0, 20, 0, 10), label=255), SQUARE, (0, 0, 0), nan),
        (canvas((0, 20, 0, 9), label=255), SQUARE, (0, 0, 1), 0.0),
        # What is left of a true object beside ignored pixels is an object.
        (np.maximum(SQUARE, canvas((0, 20, 0, 10), label=255)), SQUARE, (1, 0, 0), 1.0),
    ],
)
def test_empty_and_ignored_pixels(
    truth: np.ndarray, predicted: np.ndarray, counts: tuple[int, int, int], f1: float
) -> None:
    metrics = judged(truth, predicted)
    assert metrics.found[1].tolist() == [list(counts)] * 10
    for name in ("object_f1", "object_f1_50_95"):
        assert metrics.scores()[name] == pytest.approx(f1, nan_ok=True)


def test_objects_below_the_minimum_count_neither_way() -> None:
    truth, predicted = (
        canvas((0, 2, 0, 5), (4, 14, 4, 14)),
        canvas((0, 2, 0, 6), (4, 14, 4, 13), (18, 20, 30, 34)),
    )
    assert judged(truth, predicted).found[1, 0].tolist() == [2, 0, 1]
    assert judged(truth, predicted, min_area=10).found[1, 0].tolist() == [
        2,
        0,
        0,
    ]  # the 8 pixels match nothing
    assert judged(truth, predicted, min_area=11).found[1, 0].tolist() == [1, 0, 0]  # nor does what matches 10
    assert judged(truth, predicted, min_area=100).found[1, 0].tolist() == [1, 0, 0]  # 90 pixels match 100
    assert judged(truth, predicted, min_area=101).found[1, 0].tolist() == [0, 0, 0]


def test_watershed_counts_touching_objects() -> None:
    truth = canvas((0, 10, 0, 10), (9, 19, 9, 19))  # a corner touches
    assert judged(truth, truth).found[1, 0].tolist() == [1, 0, 0]
    metrics = judged(truth, truth, watershed=True)
    assert metrics.found[1].tolist() == [[2, 0, 0]] * 10
    assert "watershed" in metrics.report()["protocol"]["objects"]


def test_counts_add_up_in_any_order() -> None:
    whole, parts = (
        ObjectMetrics(THREE, ObjectRules()),
        [ObjectMetrics(THREE, ObjectRules()) for _ in range(2)],
    )
    for seed in range(6):
        whole.update(*blocks(seed, 3, ignored=0.1))
        parts[seed % 2].update(*blocks(seed, 3, ignored=0.1))
    together = ObjectMetrics(THREE, ObjectRules())
    for part in parts[::-1]:
        together.add(part)
    assert together.report() == whole.report()
    assert list(whole.report()["per_class"]) == ["sky", "road", "car"]
