"""Where the names of points stand so that they can be read."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

_DIRECTIONS = 24
_RINGS = 16


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: "Box") -> float:
        """The area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(width, 0.0) * max(height, 0.0)

    @property
    def area(self) -> float:
        """In square pixels."""
        return (self.right - self.left) * (self.top - self.bottom)

    @classmethod
    def around(cls, x: float, y: float, width: float, height: float) -> "Box":
        """The box of this size about a centre."""
        return cls(x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def place(
    points: Sequence[tuple[float, float]],
    radii: Sequence[float],
    sizes: Sequence[tuple[float, float]],
    frame: Box,
) -> list[Box]:
    """A box for each point's label (width, height), in the frame and free of the other labels and the points.

    The nearest free place is taken, ring by ring; where there is none, that with the least in its way.
    Points are circles of these radii. All in pixels.
    """
    circles = [Box.around(x, y, 2 * radius, 2 * radius) for (x, y), radius in zip(points, radii, strict=True)]
    placed: dict[int, Box] = {}
    # The most crowded first: the others can give way.
    for index in sorted(range(len(points)), key=lambda index: _crowd(points, index)):
        taken = [*circles, *placed.values()]
        candidates = _candidates(points[index], radii[index], sizes[index])
        placed[index] = _freest(candidates, taken, frame)
    return [placed[index] for index in range(len(points))]


def _freest(candidates: Iterable[Box], taken: Sequence[Box], frame: Box) -> Box:
    best, least = None, math.inf
    for box in candidates:
        hidden = sum(map(box.overlap, taken)) + 10 * (box.area - box.overlap(frame))
        if best is None or hidden < least:
            best, least = box, hidden
        if least < 1e-6:
            break
    assert best is not None
    return best


def _candidates(point: tuple[float, float], radius: float, size: tuple[float, float]) -> Iterator[Box]:
    (x, y), (width, height) = point, size
    for ring in range(_RINGS):
        distance = radius + 2 + ring * height / 2
        for direction in range(_DIRECTIONS):
            angle = 2 * math.pi * direction / _DIRECTIONS
            # The label's near edge, not its centre, is at this distance.
            across = (distance + width / 2) * math.cos(angle)
            up = (distance + height / 2) * math.sin(angle)
            yield Box.around(x + across, y + up, width, height)


def _crowd(points: Sequence[tuple[float, float]], index: int) -> float:
    """The less, the nearer the other points are."""
    return -sum(1 / (1 + math.dist(points[index], other)) for other in points)
