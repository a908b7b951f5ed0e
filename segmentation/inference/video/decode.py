"""Video files and cameras -> batches of RGB frames with their times, sound left aside."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
from av.stream import Disposition

from segmentation.errors import UserError
from segmentation.inference.video.media import open_camera, open_media

_USUAL_RATE = Fraction(25)
_FASTEST = 240  # frames a second; some containers tell the ticks of their clock instead


@dataclass(frozen=True)
class Frames:
    """Frames in the order in which they are shown.

    `pixels` is uint8 RGB (N, H, W, 3), upright; `times` count ticks of the reader's `time_base` from the start of the
    clip and grow strictly.
    """

    pixels: np.ndarray
    times: tuple[int, ...]


class Reader:
    """The frames of a video file, or of the camera of that number.

    `damaged` counts the packets and frames that were left out because they could not be decoded whole, `total` is
    the number of frames that the file claims, 0 where it claims none.
    """

    def __init__(self, source: Path | int) -> None:
        container = open_camera(source) if isinstance(source, int) else open_media(source)
        stream = container.streams.best("video")
        if not isinstance(stream, av.VideoStream) or stream.disposition & Disposition.attached_pic:
            container.close()
            raise UserError(f"{source} holds no video.")
        if stream.codec_context is None:
            container.close()
            raise UserError(f"{source} is in a format that cannot be decoded: convert it to MP4.")
        self.damaged = 0
        rate = stream.average_rate or stream.guessed_rate
        self.rate = rate if rate and rate <= _FASTEST else _USUAL_RATE
        self.total = stream.frames
        self.time_base = stream.time_base or 1 / self.rate
        self.aspect = Fraction(stream.sample_aspect_ratio or 1)
        self.start = Fraction(container.start_time or 0, av.time_base)
        self._shift = 0
        self._size: tuple[int, int] | None = None
        self._source, self._container, self._stream = source, container, stream
        stream.thread_type = "AUTO"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.close()

    def batches(self, size: int) -> Iterator[Frames]:
        """All frames, `size` at a time; the last batch may be smaller.

        Every frame comes turned as its display matrix says and in the size of the first. Raises `UserError`
        where not one frame can be decoded.
        """
        frames: list[np.ndarray] = []
        times: list[int] = []
        last = None
        for frame in self._decoded():
            last = self._time(frame, last)
            frames.append(self._upright(frame))
            times.append(last)
            if len(frames) == size:
                yield Frames(np.stack(frames), tuple(times))
                frames, times = [], []
        if last is None:
            raise UserError(f"{self._source} holds no frame that can be decoded.")
        if frames:
            yield Frames(np.stack(frames), tuple(times))

    def _decoded(self) -> Iterator[av.VideoFrame]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                decoded = packet.decode()
            except av.FFmpegError:
                self.damaged += 1
                continue
            for frame in decoded:
                if frame.is_corrupt:
                    self.damaged += 1
                else:
                    yield frame

    def _time(self, frame: av.VideoFrame, last: int | None) -> int:
        """The frame's own time, so that a variable rate stays as it is; a missing one is guessed."""
        step = max(1, round(1 / (self.rate * self.time_base)))
        following = 0 if last is None else last + step
        if frame.pts is None or frame.time_base is None:
            return following
        time = round((frame.pts * frame.time_base - self.start) / self.time_base) + self._shift
        if last is None:
            return max(time, 0)
        if time < last - 1 / self.time_base:
            # Recordings that were strung together start to count again.
            self._shift += following - time
            return following
        return max(time, last + 1)  # encoders refuse times that stand still

    def _upright(self, frame: av.VideoFrame) -> np.ndarray:
        if self._size is None:
            self._size = frame.height, frame.width
        height, width = self._size
        pixels = frame.to_ndarray(format="rgb24", height=height, width=width)
        matrix: Any = frame.side_data.get("DISPLAYMATRIX")
        return pixels if matrix is None else turned(pixels, np.frombuffer(matrix, np.int32))


def turned(pixels_HW3: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Pixels as a display matrix shows them: turned by the nearest quarter, and mirrored.

    `matrix` holds FFmpeg's nine integers `a b u c d v x y w`: (x, y) is shown at (ax + cy, bx + dy).
    """
    a, b, _, c, d = matrix[:5].astype(np.int64)
    across = abs(b) + abs(c) > abs(a) + abs(d)
    right, down = (c, b) if across else (a, d)
    turned = pixels_HW3.transpose(1, 0, 2) if across else pixels_HW3
    return np.ascontiguousarray(turned[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1])
