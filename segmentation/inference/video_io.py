"""Read and write videos with PyAV: files and cameras in, H.264 in MP4 out, with the sound of the input.

A file can open nothing but itself, and an unfinished output plays at any moment of its writing.
"""

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import ColorRange, Colorspace

from segmentation.config import Span
from segmentation.errors import UserError
from segmentation.inference.outputs import written_whole

FORMATS = (
    "asf,avi,dv,flv,gif,h264,hevc,ivf,matroska,webm,mjpeg,mov,mp4,mpeg,mpegts,mpegvideo,mxf,obu,ogg,rm,swf"
)
"""The containers that are read: those that hold their own pixels. Playlists (hls, concat, dash) and FFmpeg's
script-like inputs (lavfi) would let an untrusted file open other files and addresses."""


def open_media(path: Path) -> av.container.InputContainer:
    """The container of a file, without access to any other file.

    Raises `UserError` where there is no such file, or it is empty, damaged or no video.
    """
    if not path.is_file():
        raise UserError(f"{path} cannot be read: there is no such file.")
    try:
        # Named as a file, lest FFmpeg takes a colon in a name for a protocol.
        container = av.open(
            f"file:{path}",
            "r",
            options={"protocol_whitelist": "file", "format_whitelist": FORMATS},
            metadata_errors="replace",  # titles need not be UTF-8
        )
    except av.FFmpegError as error:
        raise _unreadable(path) from error
    if not container.streams:
        container.close()
        raise _unreadable(path)
    return container


def open_camera(number: int) -> av.container.InputContainer:
    """The camera `/dev/video<number>`. Raises `UserError` where there is none or it is in use."""
    if sys.platform != "linux":
        raise UserError("Cameras are read on Linux only: record a file, and give its path.")
    device = f"/dev/video{number}"
    try:
        return av.open(device, "r", format="v4l2")
    except (av.FFmpegError, OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        there = ", ".join(sorted(str(path) for path in Path("/dev").glob("video*"))) or "none"
        raise UserError(
            f"Camera {number} ({device}) cannot be opened: {cause}. Cameras here: {there}."
        ) from error


def _unreadable(path: Path) -> UserError:
    empty = path.stat().st_size == 0
    cause = "it is empty (0 bytes)" if empty else "it is damaged, cut off or no video"
    return UserError(f"{path} cannot be read: {cause}. Repair it, or convert it to MP4.")


_USUAL_FRAMES = Fraction(25)  # a second
_FASTEST = 240  # frames a second; some containers tell the ticks of their clock instead


@dataclass(frozen=True)
class Frames:
    """Frames in the order in which they are shown.

    `pixels` is uint8 RGB (N, H, W, 3), upright; `times` count ticks of the reader's `time_base` from the start of the
    clip and grow strictly.
    """

    pixels: np.ndarray
    times: tuple[int, ...]


_WHOLE = Span()


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
        self.rate = rate if rate and rate <= _FASTEST else _USUAL_FRAMES
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

    def batches(self, size: int, span: Span = _WHOLE) -> Iterator[Frames]:
        """The frames of a span, `size` at a time; the last batch may be smaller. Times count from the span's start.

        Every frame comes turned as its display matrix says and in the size of the first. Raises `UserError`
        where not one frame can be decoded, or none lies in the span.
        """
        start = math.ceil(span.start / self.time_base)
        end = math.inf if span.end is None else span.end / self.time_base
        number = -1
        frames: list[np.ndarray] = []
        times: list[int] = []
        last = None
        for frame in self._decoded():
            last = self._time(frame, last)
            if last >= end:
                break
            number += last >= start
            if last < start or number % span.every:
                continue
            frames.append(self._upright(frame))
            times.append(last - start)
            if len(frames) == size:
                yield Frames(np.stack(frames), tuple(times))
                frames, times = [], []
        if last is None:
            raise UserError(f"{self._source} holds no frame that can be decoded.")
        if number < 0:
            raise UserError(f"{self._source} has no frame from start={span.start:g} on: give an earlier one.")
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


_KEPT = frozenset({"aac", "mp3", "opus", "flac"})
"""What browsers play out of an MP4; everything else becomes AAC."""

_RATES = frozenset({8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000})
_USUAL_SAMPLES = 48000  # a second


class Sound:
    """The best audio stream of a file, if it has one, written piece by piece as the picture goes on.

    `start` is the second of the source that becomes 0. What cannot be decoded is left out.
    """

    def __init__(self, path: Path, start: Fraction) -> None:
        self._source = open_media(path)
        self._stream = self._source.streams.best("audio")
        self._start = start
        self._packets: Iterator[av.Packet] = iter(())
        self._next: av.Packet | None = None

    def attach(self, output: av.container.OutputContainer) -> None:
        """Adds the sound's stream to a video of which nothing is written yet."""
        if not isinstance(self._stream, av.AudioStream) or self._stream.codec_context is None:
            return
        context = self._stream.codec_context
        # In transport streams every packet of AAC brings its own header, which an MP4 has no place for.
        bare = context.name == "aac" and not context.extradata
        if context.codec.canonical_name in _KEPT and not bare:
            target = output.add_stream_from_template(self._stream, opaque=True)
            packets = self._copied(target)
        else:
            rate = self._stream.rate if self._stream.rate in _RATES else _USUAL_SAMPLES
            target = output.add_stream("aac", rate=rate)
            target.layout = "mono" if self._stream.channels == 1 else "stereo"
            packets = self._encoded(target)
        self._packets = _growing(packets)
        self._next = next(self._packets, None)

    def write(self, output: av.container.OutputContainer, until: Fraction | None) -> None:
        """Everything up to a second of the output, or to the end."""
        while self._next is not None and (until is None or _second(self._next) <= until):
            output.mux(self._next)
            self._next = next(self._packets, None)

    def close(self) -> None:
        """Lets go of the file."""
        self._source.close()

    def _copied(self, target: av.AudioStream) -> Iterator[av.Packet]:
        for packet in self._demuxed():
            if packet.dts is not None and packet.pts is not None:
                packet.stream = target
                yield packet

    def _encoded(self, target: av.AudioStream) -> Iterator[av.Packet]:
        for packet in self._demuxed():
            try:
                frames = packet.decode()
            except av.FFmpegError:
                continue
            for frame in frames:
                assert isinstance(frame, av.AudioFrame)
                yield from target.encode(frame)
        yield from target.encode(None)

    def _demuxed(self) -> Iterator[av.Packet]:
        """The source's packets by the output's clock."""
        shift, end = -self._start, None
        # Where a file is cut off, the sound ends as the picture does.
        with suppress(av.FFmpegError):
            for packet in self._source.demux(self._stream):
                if packet.dts is not None and packet.pts is not None and packet.time_base is not None:
                    if end is not None and _second(packet) < end - 1:
                        # As the picture: recordings that were strung together start to count again.
                        shift += end - _second(packet)
                    end = _second(packet) + (packet.duration or 0) * packet.time_base
                    ticks = round(shift / packet.time_base)
                    packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
                yield packet


def _growing(packets: Iterator[av.Packet]) -> Iterator[av.Packet]:
    """Without those that go back in time, as damaged files have them; a muxer would refuse them."""
    last = None
    for packet in packets:
        if last is None or _second(packet) > last:
            yield packet
            last = _second(packet)


def _second(packet: av.Packet) -> Fraction:
    return Fraction(packet.dts or 0) * (packet.time_base or 1)


_CODEC = {
    "preset": "veryfast",  # the processor is wanted for the model
    "crf": "20",  # edges of masks stay sharp
    "bf": "0",  # frames are stored in the order in which they are shown: exact times in every player
}
# A fragment a second: whatever kills the process, the file plays up to the last one that was written.
_FRAGMENTS = {
    "movflags": "frag_keyframe+delay_moov+default_base_moof",
    "frag_duration": "1000000",
    "flush_packets": "1",
}


class Writer:
    """The video at `path`: yuv420p, BT.709, with the sound of the source.

    Frames keep their times. Odd sizes grow to even ones, which yuv420p needs: the last row or column is
    repeated. Closing ends the file properly, also after an error; `finish` makes it one that starts fast.
    """

    def __init__(
        self, path: Path, *, time_base: Fraction, rate: Fraction, aspect: Fraction, sound: Sound | None
    ) -> None:
        self.frames = 0
        self._path = path
        self._time_base, self._rate, self._aspect, self._sound = time_base, rate, aspect, sound
        self._output = av.open(f"file:{path}", "w", format="mp4", options=_FRAGMENTS)
        self._stream: av.VideoStream | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with _said(self._path):
                if self._stream is not None:
                    self._output.mux(self._stream.encode(None))
                self._output.close()
        except UserError:
            if error is None:  # else the first one says more
                raise
        finally:
            if self._sound is not None:
                self._sound.close()

    def write(self, frames_NHW3: np.ndarray, times: Sequence[int]) -> None:
        """Adds uint8 RGB frames, shown from so many ticks on, and the sound up to them.

        Raises `UserError` where the disk is full.
        """
        with _said(self._path):
            for frame_HW3, time in zip(frames_NHW3, times, strict=True):
                self._write(frame_HW3, time)

    def end(self) -> None:
        """Adds what is left of the sound: after the last frame of a whole video."""
        with _said(self._path):
            if self._sound is not None:
                self._sound.write(self._output, until=None)

    def _write(self, frame_HW3: np.ndarray, time: int) -> None:
        height, width = frame_HW3.shape[:2]
        if height % 2 or width % 2:
            frame_HW3 = np.pad(frame_HW3, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self._stream is None:
            self._stream = self._start(*frame_HW3.shape[:2])
        frame = av.VideoFrame.from_ndarray(frame_HW3, format="rgb24").reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )
        frame.pts, frame.time_base = time, self._time_base
        self._output.mux(self._stream.encode(frame))
        self.frames += 1
        if self._sound is not None:
            self._sound.write(self._output, until=time * self._time_base)

    def _start(self, height: int, width: int) -> av.VideoStream:
        stream = self._output.add_stream("libx264", rate=self._rate, options=_CODEC)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        context = stream.codec_context
        context.time_base, context.sample_aspect_ratio = self._time_base, self._aspect
        context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709
        context.color_range = ColorRange.MPEG
        if self._sound is not None:
            self._sound.attach(self._output)
        return stream


def finish(part: Path, path: Path) -> None:
    """Makes of a fragmented MP4 the video at `path`, its index first: it starts and seeks at once in a browser.

    Raises `UserError` where the disk is full; `part` is left then.
    """
    with (
        _said(path),
        written_whole(path) as copy,
        av.open(f"file:{part}") as source,
        av.open(f"file:{copy}", "w", format="mp4", options={"movflags": "faststart"}) as output,
    ):
        targets = {
            stream.index: output.add_stream_from_template(stream, opaque=True)
            for stream in (*source.streams.video, *source.streams.audio)
        }
        for packet in source.demux(*(source.streams[index] for index in targets)):
            if packet.dts is not None:
                packet.stream = targets[packet.stream_index]
                output.mux(packet)
    part.unlink()


@contextmanager
def _said(path: Path) -> Iterator[None]:
    try:
        yield
    except av.FFmpegError as error:
        raise UserError(
            f"{path} cannot be written: {error.strerror}. Make room, or give another folder."
        ) from error
