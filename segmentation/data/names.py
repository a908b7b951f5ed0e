"""A million names in a few megabytes."""

from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, count, islice, pairwise
from typing import Any, overload

import numpy as np

_AT_ONCE = 4096


class Names(Sequence[str]):
    """Strings one after the other in a block of bytes, each made anew when it is asked for.

    A list of a million file names takes 80 MB, and again in each process that looks at it, because looking at a
    Python object writes to it. Names may hold whatever a file system allows, UTF-8 or not.
    """

    def __init__(self, block: bytes, ends: np.ndarray) -> None:
        self._block = block
        self._ends = ends  # int64, one more than there are names: where each starts, and the end of the last

    @classmethod
    def of(cls, names: Iterable[str]) -> "Names":
        """Packs the names, in their order, without a list of them."""
        return cls._pack(name.encode(errors="surrogateescape") for name in names)

    @classmethod
    def _pack(cls, parts: Iterable[bytes]) -> "Names":
        block, lengths = bytearray(), array("q", [0])
        rest = iter(parts)
        while some := list(islice(rest, _AT_ONCE)):
            block += b"".join(some)
            lengths.extend(map(len, some))
        return cls(bytes(block), np.cumsum(np.frombuffer(lengths, np.int64)))

    def take(self, places: np.ndarray) -> "Names":
        """The names at the places, in the order of these."""
        pieces = (places[first : first + _AT_ONCE] for first in range(0, len(places), _AT_ONCE))
        return self._pack(chain.from_iterable(map(self._cut, pieces)))

    def _cut(self, places: np.ndarray) -> list[bytes]:
        starts, ends = self._ends[places].tolist(), self._ends[1:][places].tolist()
        return [self._block[start:end] for start, end in zip(starts, ends, strict=True)]

    def place(self, name: str) -> int | None:
        """Where a name stands among sorted ones; None where it does not."""
        place = bisect_left(self, name)
        return place if place < len(self) and self[place] == name else None

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "Names": ...
    def __getitem__(self, index: int | slice) -> "str | Names":
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        place = range(len(self))[index]
        return self._block[self._ends[place] : self._ends[place + 1]].decode(errors="surrogateescape")

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), _AT_ONCE):
            ends = self._ends[first : first + _AT_ONCE + 1].tolist()
            for start, end in pairwise(ends):
                yield self._block[start:end].decode(errors="surrogateescape")

    def __eq__(self, other: Any) -> bool:
        if isinstance(other, Names):
            return self._block == other._block and np.array_equal(self._ends, other._ends)
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(
            mine == theirs for mine, theirs in zip(self, other, strict=True)
        )

    __hash__ = None  # type: ignore[assignment] # equal to lists, which have none either

    def __repr__(self) -> str:
        return f"<{len(self)} names>"


class Codes:
    """Words of which few differ, a byte each: the endings of a folder's files."""

    def __init__(self, table: tuple[str, ...], codes: bytes) -> None:
        self._table = table
        self._codes = codes

    @classmethod
    def of(cls, words: Iterable[str]) -> "Codes":
        """Raises `ValueError` for more than 256 different words."""
        table: dict[str, int] = defaultdict(count().__next__)
        codes = bytes(map(table.__getitem__, words))
        return cls(tuple(table), codes)

    def take(self, places: np.ndarray) -> "Codes":
        """The words at the places, in the order of these."""
        return Codes(self._table, np.frombuffer(self._codes, np.uint8)[places].tobytes())

    def __len__(self) -> int:
        return len(self._codes)

    def __getitem__(self, index: int) -> str:
        return self._table[self._codes[index]]


def common(one: Iterable[str], other: Iterable[str]) -> Iterator[str]:
    """The names that are in both of two sorted rows, without a set of either."""
    left, right = iter(one), iter(other)
    try:
        mine, theirs = next(left), next(right)
        while True:
            if mine == theirs:
                yield mine
            if mine <= theirs:
                mine = next(left)
            else:
                theirs = next(right)
    except StopIteration:
        return
