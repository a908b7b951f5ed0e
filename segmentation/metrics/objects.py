"""Objects instead of pixels: which predicted objects match true ones, and the precision, recall and F1 of that.

An object is a connected region of one class (`segmentation.components`). Pixels that the truth ignores are removed from
truth and prediction before objects are looked for, as in the boundary IoU. Truth and prediction match at a threshold t
if they are of one class and their IoU is at least t, one to one, with as many matches as possible.

Some objects count neither as found nor as wrong:

- A predicted object without match that came from a region of which the truth ignores more than half, as in panoptic
  quality (Kirillov et al. 2019, arXiv:1801.00868) and Cityscapes: nobody knows whether it is right.
- With a minimum area, a smaller true object, the prediction that matches it, and a smaller predicted object without
  match, as COCO does with areas out of range: an object just above the minimum may be found just below it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from segmentation.components import CONNECTIVITY, Objects, find_objects
from segmentation.metrics.confusion import Scores
from segmentation.types import IGNORE_INDEX, Classes

_STEPS = np.arange(10, 20)
"""The thresholds in twentieths: whole numbers compare exactly."""
THRESHOLDS: list[float] = (_STEPS / 20).tolist()
"""0.5, 0.55, ..., 0.95: those of COCO."""

Kind = Literal["match", "miss", "false_alarm"]


@dataclass(frozen=True, kw_only=True)
class ObjectRules:
    """What an object is: whether those that touch are parted, and from which area in pixels it counts."""

    watershed: bool = False
    min_area: int = 0

    def protocol(self, classes: Classes) -> dict[str, Any]:
        """The rules in words, as plain data."""
        parted = ", parted at their necks by a watershed of the distance to their outside" * self.watershed
        return {
            "objects": f"connected regions of a class, {CONNECTIVITY}-connected{parted}",
            "classes": [classes.names[label] for label in classes.foreground],
            "matching": "one to one within a class, as many as possible, by an IoU of at least the threshold",
            "thresholds": THRESHOLDS,
            "scores": "from counts summed over all images; over all classes from the sums of the classes' counts",
            "min_area": self.min_area,
            "smaller": "true objects of less, what matches them, and unmatched predictions of less do not count"
            if self.min_area
            else None,
            "ignore": "ignored pixels are removed from truth and prediction before objects are looked for; an "
            "unmatched prediction of which more than half was ignored does not count",
        }


class Row(NamedTuple):
    """One object that counts, or a match of two; areas in pixels, box and centroid as in `Objects`, of the truth.

    `iou` is that of the match, else the highest with an object of the other side and the same class.
    """

    label: int
    kind: Kind
    true_area: int | None
    predicted_area: int | None
    iou: float
    box: tuple[int, int, int, int]
    centroid: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Matched:
    """The objects of one class in one image, true (N) and predicted (M).

    `true_counts` (N,) and `predicted_counts` (M,) say which count if they match nothing; `pairs` (P, 4) are matches at
    IoU 0.5 as the indices of truth and prediction, and their intersection and union in pixels. `true_ious` (N,) and
    `predicted_ious` (M,) are the highest of each object.
    """

    label: int
    truth: Objects
    prediction: Objects
    true_counts: np.ndarray
    predicted_counts: np.ndarray
    pairs: np.ndarray
    true_ious: np.ndarray
    predicted_ious: np.ndarray

    def counts(self) -> np.ndarray:
        """Matches, misses and false alarms at each threshold, int64 (T, 3)."""
        true, predicted, both, either = self.pairs.T
        # A prediction that matches a truth too small to count is neither right nor wrong.
        holds_TP = 20 * both >= _STEPS[:, None] * either
        counted = self.true_counts[true]
        matches_T = (holds_TP & counted).sum(1)
        misses_T = self.true_counts.sum() - matches_T
        taken_T = (holds_TP & self.predicted_counts[predicted]).sum(1)
        return np.stack([matches_T, misses_T, self.predicted_counts.sum() - taken_T], axis=1)

    def kinds(self) -> dict[Kind, np.ndarray]:
        """At IoU 0.5: rows of `pairs` that count as match, indices of missed truth and of predicted false alarms."""
        missed, false = self.true_counts.copy(), self.predicted_counts.copy()
        missed[self.pairs[:, 0]] = False
        false[self.pairs[:, 1]] = False
        return {
            "match": np.flatnonzero(self.true_counts[self.pairs[:, 0]]),
            "miss": np.flatnonzero(missed),
            "false_alarm": np.flatnonzero(false),
        }

    def rows(self) -> list[Row]:
        """The matches, the misses, then the false alarms, at IoU 0.5."""
        kinds, found = self.kinds(), []
        for true, predicted, both, either in self.pairs[kinds["match"]].tolist():
            areas = int(self.truth.areas[true]), int(self.prediction.areas[predicted])
            found.append(self._row("match", self.truth, true, *areas, both / either))
        for true in kinds["miss"]:
            area, iou = int(self.truth.areas[true]), self.true_ious[true]
            found.append(self._row("miss", self.truth, true, area, None, iou))
        for predicted in kinds["false_alarm"]:
            area, iou = int(self.prediction.areas[predicted]), self.predicted_ious[predicted]
            found.append(self._row("false_alarm", self.prediction, predicted, None, area, iou))
        return found

    def shown(self) -> list[tuple[Objects, int]]:
        """What shows each of `rows`, a side and the index in it: the prediction, or the truth of a miss."""
        kinds = self.kinds()
        return [
            *((self.prediction, index) for index in self.pairs[kinds["match"], 1].tolist()),
            *((self.truth, index) for index in kinds["miss"].tolist()),
            *((self.prediction, index) for index in kinds["false_alarm"].tolist()),
        ]

    def _row(
        self, kind: Kind, objects: Objects, index: int, true: int | None, predicted: int | None, iou: float
    ) -> Row:
        box, centroid = objects.boxes[index].tolist(), objects.centroids[index].tolist()
        return Row(self.label, kind, true, predicted, float(iou), tuple(box), tuple(centroid))


@dataclass(frozen=True, eq=False)
class Found:
    """The objects of one class in one image, true (N) and predicted (M), before they are matched.

    `shared` (P, 3) are the pairs that share pixels: indices of truth and prediction, and how many. `regions` (R) are
    what was predicted, also where the truth ignores it, and `ignored` (R,) how many pixels of each that are;
    `came_from` (M,) is the region of each predicted object.
    """

    label: int
    truth: Objects
    prediction: Objects
    shared: np.ndarray
    regions: Objects
    ignored: np.ndarray
    came_from: np.ndarray

    def matched(self, rules: ObjectRules) -> Matched:
        """The objects with their matches."""
        areas = self.regions.areas
        unsure = (2 * self.ignored > areas)[self.came_from]
        counts = self.prediction.areas >= rules.min_area
        return match(
            self.label,
            self.truth,
            self.prediction,
            self.shared,
            self.truth.areas >= rules.min_area,
            counts & ~unsure,
        )


def find(
    label: int, truth_HW: np.ndarray, predicted_HW: np.ndarray, ignored_HW: np.ndarray, rules: ObjectRules
) -> Found:
    """The objects of a class, from three bool arrays: where it is, where it was predicted, what the truth ignores."""
    truth = find_objects(truth_HW, watershed=rules.watershed)
    prediction = find_objects(predicted_HW & ~ignored_HW, watershed=rules.watershed)
    shared = shared_pixels(truth, prediction)
    if not (predicted_HW & ignored_HW).any() and not rules.watershed:
        none, each = np.zeros(len(prediction), int), np.arange(len(prediction))
        return Found(label, truth, prediction, shared, prediction, none, each)
    regions = find_objects(predicted_HW)
    ignored = np.bincount(regions.labels[ignored_HW], minlength=len(regions) + 1)[1:]
    came_from = np.zeros(len(prediction) + 1, int)
    came_from[prediction.labels] = regions.labels - 1  # all pixels of an object come from one region
    return Found(label, truth, prediction, shared, regions, ignored, came_from[1:])


def classes_present(truth_HW: np.ndarray, predicted_HW: np.ndarray, classes: Classes) -> list[int]:
    """The classes but the background that uint8 labels hold."""
    present = np.union1d(np.unique(truth_HW), np.unique(predicted_HW))
    labels: list[int] = np.intersect1d(present, classes.foreground).tolist()
    return labels


def matched(
    truth_HW: np.ndarray, predicted_HW: np.ndarray, classes: Classes, rules: ObjectRules
) -> Iterator[Matched]:
    """The objects of each class but the background that has any: truth uint8 (255 is ignore), prediction uint8."""
    ignored_HW = truth_HW == IGNORE_INDEX
    for label in classes_present(truth_HW, predicted_HW, classes):
        yield find(label, truth_HW == label, predicted_HW == label, ignored_HW, rules).matched(rules)


def match(
    label: int,
    truth: Objects,
    prediction: Objects,
    shared: np.ndarray,
    true_counts: np.ndarray,
    predicted_counts: np.ndarray,
) -> Matched:
    """Which objects belong together; `shared` as in `Found`, `true_counts` and `predicted_counts` as in `Matched`."""
    true, predicted, both = shared.T
    either = truth.areas[true].astype(np.int64) + prediction.areas[predicted] - both
    best = np.zeros(len(truth)), np.zeros(len(prediction))
    for ious, index in zip(best, (true, predicted), strict=True):
        np.maximum.at(ious, index, both / either)
    overlaps = np.column_stack([shared, either])
    pairs = _one_to_one(overlaps[2 * both >= either], predicted_counts)
    return Matched(label, truth, prediction, true_counts, predicted_counts, pairs, *best)


def shared_pixels(truth: Objects, prediction: Objects) -> np.ndarray:
    """The pairs that share pixels, int64 (P, 3): indices of truth and prediction, and the number of pixels."""
    shared_HW = (truth.labels > 0) & (prediction.labels > 0)
    true, predicted = truth.labels[shared_HW] - 1, prediction.labels[shared_HW] - 1
    keys, both = np.unique(true.astype(np.int64) * len(prediction) + predicted, return_counts=True)
    return np.stack([*np.divmod(keys, max(1, len(prediction))), both], axis=1)


def _one_to_one(pairs: np.ndarray, predicted_counts: np.ndarray) -> np.ndarray:
    """A largest subset of the pairs, of IoU 0.5 or more, in which every object occurs once.

    The objects of a side are disjoint, so a pair above 0.5 is the only one of both its objects. An object may have two
    pairs at exactly 0.5 (watershed makes such): then both partners are halves of it, and belong to no other pair. So
    any choice is largest; the one that leaves fewer false alarms is taken, else the first. Above 0.5 nothing is left to
    choose: these pairs hold for every threshold.
    """
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0], ~predicted_counts[pairs[:, 1]]))]
    for side in (0, 1):
        pairs = pairs[np.sort(np.unique(pairs[:, side], return_index=True)[1])]
    return pairs[np.argsort(pairs[:, 0])]


class ObjectMetrics:
    """Counts of the objects of a split, by class.

    `found` int64 (K, T, 3) has matches, misses and false alarms at each threshold; `areas` int64 (K, 2) the pixels of
    the true and the predicted objects that count at IoU 0.5.
    """

    def __init__(self, classes: Classes, rules: ObjectRules) -> None:
        self.classes = classes
        self.rules = rules
        self.found = np.zeros((len(classes), len(THRESHOLDS), 3), np.int64)
        self.areas = np.zeros((len(classes), 2), np.int64)

    def update(self, truth_HW: np.ndarray, predicted_HW: np.ndarray) -> list[Row]:
        """Adds an image, uint8 labels (255 in the truth is ignore), and returns its objects, class by class."""
        found = matched(truth_HW, predicted_HW, self.classes, self.rules)
        return [row for objects in found for row in self.count(objects)]

    def count(self, objects: Matched) -> list[Row]:
        """Adds objects of one class, and returns them."""
        rows = objects.rows()
        self.found[objects.label] += objects.counts()
        self.areas[objects.label] += areas(rows)
        return rows

    def add(self, other: "ObjectMetrics") -> None:
        """Adds the counts of other images."""
        self.found += other.found
        self.areas += other.areas

    def scores(self) -> Scores:
        """`object_precision`, `object_recall` and `object_f1` over all classes at IoU 0.5, 0..1 or nan.

        With `_50_95` in the name: their means over the thresholds.
        """
        return {f"object_{name}": value for name, value in _scores(self.found.sum(0)).items()}

    def report(self) -> dict[str, Any]:
        """The protocol; scores, counts and areas over all classes and of each; and the counts at each threshold."""
        found_T3 = self.found.sum(0)
        return {
            "protocol": self.rules.protocol(self.classes),
            "all_classes": _summary(found_T3, self.areas.sum(0)),
            "per_class": {
                self.classes.names[label]: _summary(self.found[label], self.areas[label])
                for label in self.classes.foreground
            },
            "by_threshold": [
                {"iou": iou} | dict(zip(_COUNTED, counts, strict=True))
                for iou, counts in zip(THRESHOLDS, found_T3.tolist(), strict=True)
            ],
        }


_COUNTED = ("matches", "misses", "false_alarms")


def tally(rows: list[Row]) -> dict[str, int]:
    """How many objects of one image match, are missed or false alarms, and their `areas`."""
    kinds = [row.kind for row in rows]
    counts = (kinds.count("match"), kinds.count("miss"), kinds.count("false_alarm"))
    return _counted(counts) | dict(zip(_AREAS, areas(rows), strict=True))


_AREAS = ("true_area", "predicted_area")


def areas(rows: list[Row]) -> tuple[int, int]:
    """The summed areas of the true and of the predicted objects, in pixels."""
    return sum(row.true_area or 0 for row in rows), sum(row.predicted_area or 0 for row in rows)


def _summary(found_T3: np.ndarray, areas_2: np.ndarray) -> dict[str, float]:
    return {
        **_scores(found_T3),
        **_counted(found_T3[0].tolist()),
        **dict(zip(_AREAS, areas_2.tolist(), strict=True)),
    }


def _counted(counts: Sequence[int]) -> dict[str, int]:
    matches, misses, false_alarms = counts
    return {
        "true_objects": matches + misses,
        "predicted_objects": matches + false_alarms,
        **dict(zip(_COUNTED, counts, strict=True)),
    }


def _scores(found_T3: np.ndarray) -> Scores:
    """Precision, recall and F1, 0..1 or nan, at IoU 0.5, and their means over the thresholds where they are defined."""
    matches, misses, false_alarms = found_T3.T
    with np.errstate(invalid="ignore"):
        table = {
            "precision": matches / (matches + false_alarms),
            "recall": matches / (matches + misses),
            "f1": 2 * matches / (2 * matches + misses + false_alarms),
        }
    means = {name: values[~np.isnan(values)] for name, values in table.items()}
    return {name: float(values[0]) for name, values in table.items()} | {
        f"{name}_50_95": float(values.mean()) if len(values) else float("nan")
        for name, values in means.items()
    }
