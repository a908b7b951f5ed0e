"""Prediction of images of any size by overlapping tiles that blend into each other."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice, pairwise, product
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO

import numpy as np
from tqdm import tqdm

from segmentation.errors import UserError

Read = Callable[[slice, slice], np.ndarray]
"""(rows, columns) -> uint8 (H, W, C) of that window."""
PredictWindows = Callable[[list[np.ndarray]], np.ndarray]
"""Tiles of equal size, uint8 (H, W, C) -> float32 probabilities (B, K, H, W) of their size."""
Write = Callable[[int, int, np.ndarray], None]
"""(top, left, probabilities (K, H, W)): one finished block; blocks cover the image, each pixel once."""

GRID = 32
"""Pixels: a tile that starts at a multiple of the output stride has the same feature cells as the whole image."""

_IN_MEMORY = 2**25  # bytes of waiting rows that are kept in memory


@dataclass(frozen=True)
class Span:
    """A tile along one axis: it covers start..stop; its weights (stop - start,) sum to 1 with its neighbours'.

    It counts in first..last only: the first `shared` pixels of these count in the tile before too, and those from
    `fade` on in the tile after.
    """

    start: int
    stop: int
    first: int
    shared: int
    fade: int
    last: int
    weights: np.ndarray

    @property
    def used(self) -> slice:
        """The part of the tile that counts."""
        return slice(self.first - self.start, self.last - self.start)


def spans(length: int, *, tile: int, overlap: int) -> list[Span]:
    """The tiles along an axis of `length` pixels, none reaching beyond it; the last may overlap more.

    They start at multiples of `GRID`, if that leaves anything of a step.
    """
    side, step = min(tile, length), tile - overlap
    if step > GRID:
        step -= step % GRID
    starts = [*range(0, length - side, step), length - side]
    middles = [(start + side + following) // 2 for start, following in pairwise(starts)]
    width = min([overlap // 2, *(after - before for before, after in pairwise(middles))])
    fades = [middle - width // 2 for middle in middles]
    ends = zip(starts, [None, *fades], [*fades, None], strict=True)
    return [_span(start, start + side, before, after, width) for start, before, after in ends]


def _span(start: int, stop: int, before: int | None, after: int | None, width: int) -> Span:
    weights = np.ones(stop - start, np.float32)
    if before is not None:
        weights *= _ramp(start, stop, before, width)
    if after is not None:
        weights *= 1 - _ramp(start, stop, after, width)
    first = start if before is None else before
    fade, last = (stop, stop) if after is None else (after, after + width)
    return Span(start, stop, first, 0 if before is None else width, fade, last, weights)


def _ramp(start: int, stop: int, fade: int, width: int) -> np.ndarray:
    # From 0 before `fade` to 1 behind `fade + width`, at the pixels' centres.
    ramp = (np.arange(start, stop, dtype=np.float32) + 0.5 - fade) / max(width, 0.5)
    return ramp.clip(0, 1)


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """`predict` squares of `tile` pixels that overlap by `overlap`, `batch_size` at a time.

    `progress` shows a progress bar on stderr.

    Raises `UserError` for a tile below 16 pixels, an overlap that is not within 0..tile / 2, and a batch size below 1.
    """

    predict: PredictWindows
    tile: int
    overlap: int
    batch_size: int = 1
    progress: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"batch_size={self.batch_size} is too small: give at least 1.")
        if self.tile < 16:
            raise UserError(f"tile={self.tile} is too small: give at least 16 pixels.")
        if not 0 <= self.overlap <= self.tile // 2:
            raise UserError(
                f"overlap={self.overlap} does not fit tile={self.tile}: give 0 to {self.tile // 2}."
            )

    def run(self, read: Read, write: Write, *, size: tuple[int, int], folder: Path | None = None) -> None:
        """Reads an image of `size` (H, W) by windows and writes the blended probabilities by blocks.

        `folder` is where a temporary file is made if the rows that wait for the next row of tiles exceed 32 MiB:
        it takes 2 * overlap * W bytes for each output. Raises `UserError` where `spans` does.
        """
        rows, columns = (spans(side, tile=self.tile, overlap=self.overlap) for side in size)
        tiles = product(rows, columns)
        directory = None if folder is None else str(folder)
        with (
            SpooledTemporaryFile(_IN_MEMORY, dir=directory) as waiting,
            tqdm(total=len(rows) * len(columns), unit="tile", leave=False, disable=not self.progress) as bar,
        ):
            blend = _Blend(write, waiting)
            while group := list(islice(tiles, self.batch_size)):
                windows = [(slice(row.start, row.stop), slice(left.start, left.stop)) for row, left in group]
                found_BKHW = self.predict([read(*window) for window in windows])
                for (row, column), found_KHW in zip(group, found_BKHW, strict=True):
                    blend.add(row, column, found_KHW)
                bar.update(len(group))


@dataclass(frozen=True)
class Whole:
    """`predict` whole images: what a `Tiling` is for images that are read at once."""

    predict: PredictWindows

    def run(self, read: Read, write: Write, *, size: tuple[int, int], folder: Path | None = None) -> None:
        """Reads an image of `size` (H, W) and writes its probabilities as one block."""
        height, width = size
        write(0, 0, self.predict([read(slice(0, height), slice(0, width))])[0])


class _Blend:
    """Sums weighted tiles, row by row from the left, and writes the pixels that no further tile covers."""

    def __init__(self, write: Write, waiting: IO[bytes]) -> None:
        self._write = write
        self._waiting = waiting
        self._right = np.empty(0, np.float32)

    def add(self, row: Span, column: Span, probabilities_KHW: np.ndarray) -> None:
        sums_KHW = probabilities_KHW[:, row.used, column.used] * row.weights[row.used, None]
        sums_KHW *= column.weights[column.used]
        if column.shared:
            sums_KHW[:, :, : column.shared] += self._right
        finished = column.fade - column.first
        self._right = sums_KHW[:, :, finished:].copy()
        self._add_below(row, column, sums_KHW[:, :, :finished])

    def _add_below(self, row: Span, column: Span, sums_KHW: np.ndarray) -> None:
        outputs, _, width = sums_KHW.shape
        if row.shared:
            sums_KHW[:, : row.shared] += self._kept(column, (outputs, row.shared, width))
        finished = row.fade - row.first
        below_KHW = np.ascontiguousarray(sums_KHW[:, finished:])
        # Every column of tiles has a fixed position in the file, reused from row to row.
        self._waiting.seek(below_KHW[:, :, :1].nbytes * column.first)
        self._waiting.write(below_KHW.data)
        self._write(row.first, column.first, sums_KHW[:, :finished])

    def _kept(self, column: Span, shape: tuple[int, int, int]) -> np.ndarray:
        pixel = shape[0] * shape[1] * np.dtype(np.float32).itemsize
        self._waiting.seek(pixel * column.first)
        return np.frombuffer(self._waiting.read(pixel * shape[2]), np.float32).reshape(shape)


def block(top: int, left: int, found_KHW: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns of a finished block."""
    _, height, width = found_KHW.shape
    return slice(top, top + height), slice(left, left + width)


def tile_of_windows(size: tuple[int, int]) -> int:
    """The tile for images much larger than the windows (H, W) that a model was trained on: twice their longer side.

    In larger tiles fewer pixels lie near a seam, and objects keep more of their surroundings; those of twice the side
    take about the memory of a training step with four windows. Smaller images are predicted whole.
    """
    return 2 * max(size)
