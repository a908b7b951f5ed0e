"""Ranks beside the dots of a picture, none written over another."""

from collections.abc import Mapping
from dataclasses import dataclass

_DIGIT, _LINE = 8.0, 13.0
"""What a letter takes of the picture, generously."""

_FEW = 3
"""More ranges at one place are not spelt out: the table has them."""


@dataclass(frozen=True)
class Label:
    """Ranks at one place: where the first of them begins, and all of them, the best first."""

    x: float
    y: float
    ranks: tuple[int, ...]

    @property
    def text(self) -> str:
        """As `1-3, 5`: equal models follow one another, and a short label meets fewer others."""
        starts = [rank for rank in self.ranks if rank - 1 not in self.ranks]
        ends = [rank for rank in self.ranks if rank + 1 not in self.ranks]
        ranges = [
            f"{start}" if start == end else f"{start}-{end}" for start, end in zip(starts, ends, strict=True)
        ]
        return ", ".join([*ranges[:_FEW], *(["..."] if len(ranges) > _FEW else [])])

    def meets(self, other: "Label") -> bool:
        """Whether one would be written over the other."""
        first, second = sorted((self, other), key=lambda label: label.x)
        return abs(first.y - second.y) < _LINE and second.x < first.x + _DIGIT * len(first.text)

    def joined(self, other: "Label") -> "Label":
        """One for both, at the place of the better."""
        first, second = sorted((self, other), key=lambda label: label.ranks)
        return Label(first.x, first.y, tuple(sorted(first.ranks + second.ranks)))


def labels(places: Mapping[int, tuple[float, float]]) -> dict[int, Label]:
    """From the place of each rank to the labels that are written, by the rank beside whose dot they stand."""
    apart: list[Label] = []
    for rank, (x, y) in places.items():
        new = Label(x, y, (rank,))
        # One that has taken in another is longer, and may meet a third.
        while met := next((label for label in apart if label.meets(new)), None):
            apart.remove(met)
            new = met.joined(new)
        apart.append(new)
    return {label.ranks[0]: label for label in apart}
