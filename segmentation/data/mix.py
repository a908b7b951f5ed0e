"""Several data sets as one: their splits are joined, and `weight` says how large a part of an epoch each one is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np

from segmentation.data.dataset import (
    Fingerprint,
    Ranged,
    Samples,
    SegmentationDataset,
    areas_of,
    fingerprint_of,
)
from segmentation.data.pixel_range import PixelRange
from segmentation.data.windows import Windowed
from segmentation.errors import UserError
from segmentation.types import Area, Sample


@dataclass(frozen=True)
class Joined:
    """The samples of several data sets, one after the other; `labels` become parts of their names.

    `pixel_range` is that of all parts whose images may have more than 8 bits.
    """

    parts: tuple[Samples, ...]
    labels: tuple[str, ...]
    pixel_range: PixelRange | None = None

    def __post_init__(self) -> None:
        if self.pixel_range is not None:
            ranged = [
                replace(part, pixel_range=self.pixel_range) if isinstance(part, Ranged) else part  # type: ignore[type-var]
                for part in self.parts
            ]
            object.__setattr__(self, "parts", tuple(ranged))

    @property
    def names(self) -> Sequence[str]:
        """`LABEL/NAME` of each sample."""
        return [
            f"{label}/{name}"
            for label, part in zip(self.labels, self.parts, strict=True)
            for name in part.names
        ]

    @property
    def areas(self) -> Sequence[Area | None]:
        """Where each sample lies in a scene, whose numbers go on from one data set to the next."""
        found: list[Area | None] = []
        for part in self.parts:
            first = 1 + max((area.scene for area in found if area is not None), default=-1)
            found += [area and area._replace(scene=area.scene + first) for area in areas_of(part)]
        return found

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, index: int) -> Sample:
        label, part, inner = self._find(index)
        sample = part[inner]
        return {**sample, "name": f"{label}/{sample['name']}"}

    def size(self, index: int) -> tuple[int, int]:
        """(H, W) of the image."""
        _, part, inner = self._find(index)
        if isinstance(part, Windowed):
            return part.size(inner)
        height, width = part[inner]["mask"].shape
        return height, width

    def window(self, index: int, rows: slice, columns: slice) -> Sample:
        """These rows and columns of a sample."""
        label, part, inner = self._find(index)
        if isinstance(part, Windowed):
            sample = part.window(inner, rows, columns)
        else:
            whole = part[inner]
            sample = {**whole, "image": whole["image"][rows, columns], "mask": whole["mask"][rows, columns]}
        return {**sample, "name": f"{label}/{sample['name']}"}

    def values(self, index: int) -> np.ndarray | None:
        """The image's values, (H, W, C), or a part of them; None where they have 8 bits."""
        _, part, inner = self._find(index)
        return part.values(inner) if isinstance(part, Ranged) else None

    def mask(self, index: int) -> np.ndarray:
        """The mask alone, uint8 (H, W)."""
        _, part, inner = self._find(index)
        return part.mask(inner) if isinstance(part, Windowed) else part[inner]["mask"]

    def fingerprint(self) -> Fingerprint:
        """Those of the parts. Raises `UserError` for parts without one."""
        found = [fingerprint_of(part) for part in self.parts]
        return Fingerprint("\n".join(each.what for each in found), "\n".join(each.state for each in found))

    def _find(self, index: int) -> tuple[str, Samples, int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        ends = list(accumulate(map(len, self.parts)))
        number = int(np.searchsorted(ends, index, side="right"))
        return self.labels[number], self.parts[number], index - (ends[number - 1] if number else 0)


def mix(opened: Mapping[str, SegmentationDataset], weights: Sequence[float]) -> SegmentationDataset:
    """The data sets, by a label each, as one; an epoch of training has the size of all of them together.

    `weights` (each above 0) are in proportion to each one's share of an epoch. Validation and test take every sample
    once.

    Raises `UserError` for data sets of different classes or numbers of bands.
    """
    first_label, first = next(iter(opened.items()))
    for label, other in opened.items():
        if (other.classes.names, other.classes.binary) != (first.classes.names, first.classes.binary):
            raise UserError(
                f"dataset.sets: {first_label} has the classes {', '.join(first.classes.names)}, but {label} "
                f"{', '.join(other.classes.names)}: give both the same, in the same order (names, labels, merge)."
            )
    labels = tuple(opened)
    parts = {
        split: Joined(tuple(each.splits()[split] for each in opened.values()), labels)
        for split in ("train", "val", "test")
    }
    within = [np.ones(len(each.train)) if each.often is None else each.often for each in opened.values()]
    total = sum(map(len, within)) / sum(weights)
    often = np.concatenate(
        [weight * total * each / each.sum() for weight, each in zip(weights, within, strict=True)]
    )
    same = all(each.test is each.val for each in opened.values())
    return SegmentationDataset(
        first.classes,
        parts["train"],
        parts["val"],
        parts["val"] if same else parts["test"],
        tuple(f"{label}: {note}" for label, each in opened.items() for note in each.notes),
        first.channels,
        first.pixel_range,
        often=often,
    )


def read_sets(sets: Any) -> tuple[dict[str, dict[str, Any]], list[float]]:
    """The options of each data set in `dataset.sets` by a label, and their weights (default 1).

    `{road: {name: folder, root: PATH, weight: 2}, ...}`, or a list, whose labels are then numbers. Raises `UserError`
    for anything else.
    """
    listed = dict(enumerate(sets, 1)) if isinstance(sets, list) else sets
    right = isinstance(listed, Mapping) and len(listed) > 1
    if not right or not all(isinstance(each, Mapping) and "name" in each for each in listed.values()):
        raise UserError(
            f"dataset.sets={sets}: give two or more, as {{a: {{name: folder, root: PATH, weight: 2}}, b: {{...}}}}."
        )
    weights = [each.get("weight", 1) for each in listed.values()]
    for label, weight in zip(listed, weights, strict=True):
        if not isinstance(weight, int | float) or isinstance(weight, bool) or not 0 < weight < float("inf"):
            raise UserError(f"dataset.sets.{label}.weight={weight}: give a number above 0.")
    options = {
        str(label): {key: value for key, value in each.items() if key != "weight"}
        for label, each in listed.items()
    }
    return options, weights
